"""One model that runs as any of its sub-networks."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mutualnet.precision import CHANNELS_LAST, is_channels_last
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.bn_bank import (
    HOW_TO_CALIBRATE,
    BankKey,
    BNBank,
    BNStatistics,
    MissingStatisticsError,
    tracked_norms,
    write_statistics,
)
from mutualnet.supernet.channel_plan import ChannelPlan, Index
from mutualnet.supernet.channel_rules import ChannelRule, architecture_name
from mutualnet.supernet.depth_plan import is_inside
from mutualnet.supernet.examples import ExampleMaker, ImagesLike, likely_images
from mutualnet.supernet.narrow import narrow_module, take
from mutualnet.supernet.plan_report import describe_plan
from mutualnet.supernet.shared_gradients import GradientLock, GradientRoute
from mutualnet.supernet.sort_channels import sort_channels as reorder
from mutualnet.supernet.switchable_norms import OwnNorms
from mutualnet.supernet.tracing import UNUSED, trace_channels
from mutualnet.supernet.weight_sharing import SharedLeaf, SubnetTie, tie_of
from mutualnet.supernet.weights_version import WeightsVersion

logger = logging.getLogger(__name__)

_Shape = tuple[tuple[int, ...], tuple[int, ...] | None]
"""What shapes a sub-network's module: channels of every group, blocks of every stage."""


@dataclass(frozen=True, kw_only=True)
class WeightSlice:
    """Where a weight of a sub-network lies in the supernet's."""

    source: str
    """Name of the supernet's tensor: the weight's own, or that of a norm of this width alone."""
    full: nn.Parameter
    dims: Mapping[int, Index]
    """Kept positions of the narrowed dimensions."""


class Supernet(nn.Module):
    """A model together with the space of its sub-networks, which are views into its weights.

    The model itself is not changed: same class, same `state_dict` keys, same outputs. Train, move
    and save it as before; `subnet()` and `extract()` make narrower modules of it.

    Args:
        model: A CNN from timm, torchvision or your own, whose channels can be traced.
        space: Widths and resolutions to run at.
        channel_rules: Rules of single layers (patterns of layer names), before the architecture's.
        own_norms: Give every width of the space's list BN weights of its own (slimmable networks).
        sort_channels: Reorder the channels of a trained model first, the most important ones in
            front: "l1", "l2" or "taylor", see `sort_channels`. This alone changes the model's
            tensors, and its outputs at full width no more than by rounding.
        example_input: What the model, or its elastic part, is called with: a tensor (N, C, H, W)
            or (N, C, T, H, W), one of other dimensions, which is then the same at every resolution,
            or a function of a sub-network and the largest one that makes the first one's, a batch
            of one. By default the model's own method of that name; without one zeros at the
            sub-network's resolution and frames, with the channels of the first convolution or of
            timm's configuration, and 16 frames where the convolution is three-dimensional.
        elastic_part: Name of the submodule that is narrowed, such as "backbone" of a detector; the
            rest is shared by all sub-networks as it is. By default the model's attribute of that
            name; without one the whole model. `channel_rules` then go by names inside of it.
        counted_part: Name of the submodule whose multiply-adds are a sub-network's cost, in the
            elastic part or the same. By default the model's attribute of that name; without one
            the elastic part.
        rules: The name of `channel_rules` before; it will go.

    Raises:
        TypeError: If `model` is not an `nn.Module`.
        ValueError: If the model was made in inference mode, does not run on the example, has no
            submodule of a name, no layer can be made narrower, `own_norms` is asked for without a
            list of widths, or depths below 1 of a model none of whose blocks can be left out.

    Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978.
    """

    def __init__(
        self,
        model: nn.Module,
        space: ElasticSpace | None = None,
        *,
        channel_rules: Mapping[str, ChannelRule] | None = None,
        own_norms: bool = False,
        sort_channels: str | None = None,
        example_input: Tensor | ExampleMaker | None = None,
        elastic_part: str | None = None,
        counted_part: str | None = None,
        rules: Mapping[str, ChannelRule] | None = None,
    ) -> None:
        super().__init__()
        if rules is not None:
            warnings.warn(
                "Supernet(rules=) is now Supernet(channel_rules=)", DeprecationWarning, stacklevel=2
            )
            channel_rules = {**rules, **(channel_rules or {})}
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
        if isinstance(model, Supernet):
            raise TypeError("model must be a plain network, got a Supernet. Pass supernet.model.")
        if any(parameter.is_inference() for parameter in model.parameters()):
            raise ValueError(
                "the model must be made outside of torch.inference_mode(), got parameters that can "
                "never be trained. Make it outside and load its state."
            )
        self.model = model
        self.space = space if space is not None else ElasticSpace()
        self.elastic_part = _part(model, "elastic_part", elastic_part)
        self.counted_part = _part(model, "counted_part", counted_part) or self.elastic_part
        if not is_inside(self.counted_part, (self.elastic_part,)) and self.elastic_part:
            raise ValueError(
                f"counted_part must lie in the elastic part {self.elastic_part!r}, got "
                f"{self.counted_part!r}"
            )
        part = model.get_submodule(self.elastic_part)
        self._make_example: ExampleMaker | None = None
        if isinstance(example_input, Tensor):
            self._make_example = ImagesLike(example_input)
        elif example_input is not None:
            self._make_example = example_input
        elif not callable(getattr(model, "example_input", None)):
            self._make_example = likely_images(part, self.space.largest)
        is_given = isinstance(example_input, Tensor)
        example = example_input if is_given else self.example_input(self.space.largest)
        self.plan: ChannelPlan = trace_channels(part, example, channel_rules).inside(
            self.elastic_part
        )
        if self.plan.carried:
            logger.warning(
                "narrow sub-networks keep their part of the full network's %s, which training "
                "writes to and calibration does not renew: in eval mode they may be far off. "
                "BatchNorm layers are calibrated.",
                ", ".join(self.plan.carried),
            )
        if not self.plan.groups:
            raise ValueError(f"no layer of the model can be made narrower. {self.report()}")
        if self.space.depths[-1] < 1 and not self.plan.depth.stages:
            raise ValueError(
                f"the space has the depths {self.space.depths}, but no residual block of the model "
                "can be left out. Leave depths at (1.0,)."
            )
        if own_norms and self.space.widths is None:
            raise ValueError("own_norms needs a space with a list of widths, got a range")
        if sort_channels is not None:
            self._warn_of_unused()
            reorder(model, self.plan, sort_channels)
        self.bank = BNBank()
        self.own_norms: OwnNorms | None = None
        if own_norms:
            widths = [
                self._width_counts(replace(self.space.largest, width_mult=w))
                for w in self.space.grid_widths()
            ]
            self.own_norms = OwnNorms(model, self.plan, widths)
        self._prepare()

    def _warn_of_unused(self) -> None:
        unused = [name for f in self.plan.inelastic if f.reason == UNUSED for name in f.layers]
        if unused:
            logger.warning(
                "sort_channels: %s did not run when the channels were followed. If a branch that "
                "depends on values runs them later, it meets channels in another order.",
                ", ".join(unused),
            )

    def _prepare(self) -> None:
        """Make what is neither copied nor saved."""
        self.gradient_lock = GradientLock()
        self._weights = WeightsVersion(self)
        self._pool: OrderedDict[_Shape, nn.Module] = OrderedDict()
        self._pool_size = 256

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in ("gradient_lock", "_weights", "_pool", "_pool_size"):
            state.pop(name)
        # Versions count within this object's life only; what is fresh now is marked for the copy.
        state["_fresh"] = [k for k, s in self.bank.items() if self._is_fresh(s)]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        fresh = state.pop("_fresh")
        super().__setstate__(state)
        self._prepare()
        entries, self.bank = self.bank, BNBank()
        for key in fresh:
            self.bank.put(key, _with_version(entries[key], self.weights_version))

    def forward(self, x: Tensor) -> Any:
        """Run the full model."""
        return self.model(x)

    def example_input(self, subnet: Subnet) -> Any:
        """What the elastic part is called with in a sub-network: zeros, a batch of one."""
        # The model's own method is looked up at each call: a copy of this object has another model.
        make = self._make_example or self.model.example_input
        return make(subnet, self.space.largest)  # type: ignore[operator]

    # ------------------------------------------------------------------------------ sub-networks

    def counts(self, subnet: Subnet) -> tuple[int, ...]:
        """Active channels of every group in a sub-network; equal counts are the same network.

        Raises:
            ValueError: If the sub-network lies outside the space.
        """
        return self.plan.without(self._width_counts(subnet), self.removed(subnet))

    def _width_counts(self, subnet: Subnet) -> tuple[int, ...]:
        """The same, those of blocks that are left out too."""
        self.space.check(subnet)
        full = self.space.full_width_mult
        shares = {name: width / full for name, width in subnet.group_widths or ()}
        return self.plan.counts(subnet.width_mult / full, shares)

    def depths(self, subnet: Subnet) -> tuple[int, ...] | None:
        """Blocks of every stage that a sub-network runs; None if it runs all.

        Raises:
            ValueError: If the sub-network lies outside the space.
        """
        self.space.check(subnet)
        if subnet.depth_mult is None:
            return None
        found = self.plan.depth.depths(subnet.depth_mult)
        return None if found == self.plan.depth.full_depths else found

    def removed(self, subnet: Subnet) -> tuple[str, ...]:
        """Names of the residual blocks that a sub-network leaves out.

        Raises:
            ValueError: If the sub-network lies outside the space.
        """
        depths = self.depths(subnet)
        return () if depths is None else self.plan.depth.removed(depths)

    def stage_widths(self, widths: Sequence[float]) -> dict[str, float]:
        """Group widths from one width multiplier for each stage, for `Subnet(group_widths=...)`.

        A stage is all channel groups whose layers' outputs have one resolution, as they come in the
        network; layers of a residual block count at the block's output, and those without a
        resolution, such as linear ones, with the layer before. `report()` lists them.

        Args:
            widths: One for each stage.

        Raises:
            ValueError: If there are more or fewer.
        """
        stages = self.plan.stages
        if len(widths) != len(stages):
            names = "; ".join(
                f"{stage.side} px: {self.plan.groups[stage.groups[0]].name}, ..."
                for stage in stages
            )
            raise ValueError(
                f"stage_widths takes one width for each of {len(stages)} stages, got "
                f"{len(widths)}. The stages are {names}"
            )
        return {
            self.plan.groups[number].name: float(width)
            for stage, width in zip(stages, widths, strict=True)
            for number in stage.groups
        }

    def key(self, subnet: Subnet) -> BankKey:
        """Where the BN bank keeps the statistics of a sub-network; equal for equal networks."""
        return BankKey(
            self.counts(subnet), subnet.resolution, subnet.num_frames, self.depths(subnet)
        )

    def distinct(self, subnets: Iterable[Subnet]) -> dict[BankKey, Subnet]:
        """The first of every equal ones: the same channels and blocks at the same resolution.

        Args:
            subnets: Their order is kept.
        """
        found: dict[BankKey, Subnet] = {}
        for subnet in subnets:
            found.setdefault(self.key(subnet), subnet)
        return found

    def is_full(self, subnet: Subnet) -> bool:
        """Whether a sub-network has every channel and block of the model."""
        return self._is_full(self.key(subnet))

    def _is_full(self, key: BankKey) -> bool:
        return key.depths is None and key.counts == self.plan.full_counts

    def _removed(self, key: BankKey) -> tuple[str, ...]:
        return () if key.depths is None else self.plan.depth.removed(key.depths)

    def subnet(self, subnet: Subnet) -> nn.Module:
        """Make a sub-network: the model's own class, narrower, on views into its weights.

        It trains at once, alone or with others; its gradients are the full parameters' gradients.
        In eval mode it takes its BN statistics from the bank and refuses to run without.

        Args:
            subnet: Which one. Its width and depth shape the module, its resolution picks the
                statistics. An `nn.Identity` stands for each block that is left out.

        Returns:
            A new module, in the train or eval mode of the model. It shares only the weights.

        Raises:
            ValueError: If the sub-network lies outside the space.
        """
        key = self.key(subnet)
        tie, widths = SubnetTie(self, key, str(subnet)), self._width_counts(subnet)
        modules = dict(self.model.named_modules())

        def leaf(name: str, full: nn.Parameter, dims: dict[int, Index]) -> nn.Parameter:
            path, _, attribute = name.rpartition(".")
            owner = self._own_norm(widths, path)
            if owner is None:
                owner = modules[path]
            else:
                dims = {}
            route = GradientRoute(name, owner, attribute, dims, self.gradient_lock)
            shared = SharedLeaf(route)
            tie.leaves.append(shared)
            return shared.leaf

        module = narrow_module(
            self.model,
            self.plan,
            key.counts,
            leaf,
            lambda _, full, dims: take(full, dims).clone(),
            self._removed(key),
        )
        tie.attach(module, [norm for _, norm in tracked_norms(module)])
        return module

    def _own_norm(self, counts: tuple[int, ...], path: str) -> nn.Module | None:
        if self.own_norms is None or counts == self.plan.full_counts:
            return None
        return self.own_norms.owner(counts, path)

    def pooled_subnet(self, subnet: Subnet) -> nn.Module:
        """The same as `subnet()` for training steps, but reused between calls of equal shape.

        It takes the train or eval mode of each of the model's layers anew, and must be used by one
        thread, in train mode, before the next call.
        """
        key = self.key(subnet)
        shape = key.counts, key.depths
        module = self._pool.pop(shape, None)
        if module is None:
            module = self.subnet(subnet)
        else:
            known = dict(self.model.named_modules())
            for name, narrow in module.named_modules():
                narrow.training = known[name].training
            tie_of(module).rename(key, str(subnet))
        self._pool[shape] = module
        while len(self._pool) > self._pool_size:
            self._pool.popitem(last=False)
        return module

    @staticmethod
    def release_gradients(subnet: nn.Module) -> None:
        """Let a sub-network forget its gradients, which stay in the full parameters.

        Otherwise it keeps the storage of a full gradient alive that `zero_grad()` has discarded.
        """
        tie_of(subnet).release_gradients()

    def extract(self, subnet: Subnet, *, uncalibrated: bool = False) -> nn.Module:
        """Make a sub-network with tensors of its own: a plain module, nothing of ours inside.

        Of blocks that it leaves out an `nn.Identity` stays, which has no state: the others keep
        their names, so that its state fits a network that was built with fewer blocks.

        Args:
            subnet: Which one.
            uncalibrated: Allow it to carry the full model's BN statistics, which do not fit it; for
                counting, timing and training only.

        Raises:
            ValueError: If the sub-network lies outside the space.
            MissingStatisticsError: If the bank has no fresh statistics for it.
        """
        key, widths = self.key(subnet), self._width_counts(subnet)
        statistics = self.statistics(key)
        if statistics is None and not uncalibrated and tracked_norms(self.model):
            raise MissingStatisticsError(
                f"sub-network {subnet} must be calibrated before it is extracted. Call "
                f"{HOW_TO_CALIBRATE}, or pass uncalibrated=True if its outputs do not matter."
            )

        def parameter(name: str, full: nn.Parameter, dims: dict[int, Index]) -> nn.Parameter:
            path, _, attribute = name.rpartition(".")
            owner = self._own_norm(widths, path)
            values = _own(full, dims) if owner is None else _own(getattr(owner, attribute), {})
            return nn.Parameter(values, requires_grad=full.requires_grad)

        module = narrow_module(
            self.model, self.plan, key.counts, parameter, _own_buffer, self._removed(key)
        )
        if statistics is not None:
            write_statistics([norm for _, norm in tracked_norms(module)], statistics)
        return module

    def weight_slices(self, subnet: Subnet) -> dict[str, WeightSlice]:
        """Where the weights of a sub-network lie in the supernet's, by their names in the model.

        Tied weights have several names, and one source.

        Raises:
            ValueError: If the sub-network lies outside the space.
        """
        key, widths = self.key(subnet), self._width_counts(subnet)
        indices, removed = self.plan.indices(key.counts), self._removed(key)
        own = {} if self.own_norms is None else dict(self.own_norms.named_parameters())
        names = {id(parameter): f"own_norms.{name}" for name, parameter in own.items()}
        first = {id(parameter): name for name, parameter in self.model.named_parameters()}
        found = {}
        for name, full in self.model.named_parameters(remove_duplicate=False):
            if is_inside(name, removed):
                continue
            path, _, attribute = name.rpartition(".")
            owner = self._own_norm(widths, path)
            if owner is None:
                source = first[id(full)]
                found[name] = WeightSlice(source=source, full=full, dims=indices.get(source, {}))
            else:
                own_values = getattr(owner, attribute)
                found[name] = WeightSlice(source=names[id(own_values)], full=own_values, dims={})
        return found

    # -------------------------------------------------------------------------------- statistics

    @property
    def weights_version(self) -> int:
        """A number that changes whenever a weight does."""
        return self._weights.current()

    def weights_changed(self) -> None:
        """Declare all BN statistics stale, after an edit without trace such as `p.data.mul_(2)`."""
        self._weights.count += 1

    def _is_fresh(self, statistics: BNStatistics) -> bool:
        return statistics.weights_version == self.weights_version

    def statistics(self, key: BankKey) -> BNStatistics | None:
        """Fresh BN statistics of a sub-network, None if there are none.

        At full width and depth the model's own running statistics serve until it is calibrated:
        they are as current as in any network, and keep its outputs what they were before
        conversion.
        """
        known = self.bank.get(key)
        if known is not None and self._is_fresh(known):
            return known
        if not self._is_full(key):
            return None
        norms = [norm for _, norm in tracked_norms(self.model)]
        dtype = next(
            (norm.running_mean.dtype for norm in norms if norm.running_mean is not None), None
        )
        empty = torch.zeros(0, dtype=dtype)
        means = [norm.running_mean for norm in norms if norm.running_mean is not None]
        variances = [norm.running_var for norm in norms if norm.running_var is not None]
        return BNStatistics(
            mean=torch.cat([empty, *(m.detach().cpu() for m in means)]),
            var=torch.cat([empty, *(v.detach().cpu() for v in variances)]),
            num_samples=0,
            batch_size=0,
            data_id="the model's own",
            weights_version=self.weights_version,
        )

    def weights_hash(self) -> str:
        """SHA-256 of names and values of the parameters, to tell other weights apart."""
        digest = hashlib.sha256()
        parts = [self.model] if self.own_norms is None else [self.model, self.own_norms]
        for name, parameter in (pair for part in parts for pair in part.named_parameters()):
            digest.update(name.encode())
            values = parameter.detach().cpu().contiguous().reshape(-1)
            digest.update(values.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    # ------------------------------------------------------------------------------------ report

    def report(self) -> str:
        """What is elastic, by which rule, and what keeps its size and why, as plain text."""
        return describe_plan(self.plan, architecture_name(self.model), self.elastic_part)


def _part(model: nn.Module, name: str, given: str | None) -> str:
    """The name of a submodule: as given, or as the model says; empty for the whole model."""
    path = getattr(model, name, "") if given is None else given
    try:
        model.get_submodule(path)
    except AttributeError:
        known = ", ".join(child for child, _ in model.named_children())
        raise ValueError(
            f"{name} must name a submodule of the model, got {path!r}. It has {known}."
        ) from None
    return str(path)


def _own(tensor: Tensor, dims: dict[int, Index]) -> Tensor:
    """A copy with its own storage, in the memory format of the full tensor."""
    narrow = take(tensor.detach(), dims)
    own = narrow.clone(memory_format=torch.contiguous_format)
    return CHANNELS_LAST.arranged(own) if is_channels_last(tensor) else own


def _own_buffer(_: str, full: Tensor, dims: dict[int, Index]) -> Tensor:
    return _own(full, dims)


def _with_version(statistics: BNStatistics, version: int) -> BNStatistics:
    return replace(statistics, weights_version=version)


@contextmanager
def temporary_bank(supernet: Supernet) -> Iterator[BNBank]:
    """An empty BN bank inside the block; the network's own is back after it, after an error too."""
    kept, supernet.bank = supernet.bank, BNBank()
    try:
        yield supernet.bank
    finally:
        supernet.bank = kept
