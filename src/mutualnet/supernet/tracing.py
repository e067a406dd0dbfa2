"""From an untouched model to its channel plan, with Torch-Pruning's dependency graph."""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch_pruning as tp  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_leaves

from mutualnet.messages import first_line
from mutualnet.module_state import mode_of
from mutualnet.supernet.channel_plan import Axis, ChannelGroup, ChannelPlan, Inelastic, Segment
from mutualnet.supernet.channel_rules import PLAIN, ChannelRule, rules_for
from mutualnet.supernet.layers import axis_kind, grouped_step, is_one_axis, is_sized
from mutualnet.supernet.meta_copy import meta_copy
from mutualnet.supernet.verify import freeze_failing_groups

logger = logging.getLogger(__name__)


@dataclass
class _Use:
    """Where a raw group touches one side of one layer."""

    layer: str
    side: str
    positions: np.ndarray
    channels: np.ndarray


@dataclass
class _RawGroup:
    """A set of tied channels as traced, before it is known to be elastic."""

    size: int
    uses: dict[tuple[str, str], _Use] = field(default_factory=dict)
    problem: str | None = None

    def producers(self) -> list[str]:
        return [layer for (layer, side) in self.uses if side == "out"]

    def layers(self) -> list[str]:
        return list(dict.fromkeys(layer for layer, _ in self.uses))

    def add(self, use: _Use) -> None:
        known = self.uses.get((use.layer, use.side))
        if known is None:
            self.uses[use.layer, use.side] = use
        elif not (
            np.array_equal(known.positions, use.positions)
            and np.array_equal(known.channels, use.channels)
        ):
            self.problem = f"{use.layer} sees its channels in two different orders"


def trace_channels(
    model: nn.Module,
    example_input: Tensor,
    rules: Mapping[str, ChannelRule] | None = None,
) -> ChannelPlan:
    """Find the tied channels of a model and everything that sizes them.

    The model is not changed: a copy without values (on the meta device where the model allows it)
    is traced in eval mode, and in train mode where that runs other modules. Narrowing the copy to
    one channel step per group must run and keep the output's shape; groups that break it freeze.

    Args:
        model: Any CNN that runs on `example_input`.
        example_input: (N, C, H, W), only its shape and dtype count. N is raised to 2 in train mode.
        rules: Layer-name patterns to channel rules, before the architecture's own.

    Raises:
        ValueError: If the model does not run on `example_input`, or a rule matches no layer.
    """
    shape = (
        max(2, example_input.shape[0]),
        *example_input.shape[1:],
    )  # BN in train mode needs 2
    copy_, inputs = meta_copy(model, shape)
    names = {module: name for name, module in copy_.named_modules()}
    problems = _layer_problems(model)
    raw: list[_RawGroup] = []
    outputs: set[str] = set()
    eval_calls = _module_calls(copy_, inputs, training=False) or Counter()
    train_calls = _module_calls(copy_, inputs, training=True)
    modes = (
        [False] if train_calls is None or eval_calls.keys() >= train_calls.keys() else [False, True]
    )
    for training in modes:
        _trace_mode(copy_, inputs, names, training, raw, outputs)
    for calls in (eval_calls, train_calls or Counter()):
        for module, times in calls.items():
            if times > 1 and next(module.parameters(recurse=False), None) is not None:
                problems[names[module]] = f"called {times} times in one forward pass"
    _tie_grouped_layers(raw, copy_)
    for group in raw:
        group.problem = group.problem or _problem_of(group, problems, outputs)
    _freeze_overlaps(raw)
    plan = _build_plan(model, raw, rules_for(model, rules), example_input.shape[1])
    _check_overrides(rules, plan, model)
    return freeze_failing_groups(copy_, inputs, plan, train=len(modes) > 1)


# ------------------------------------------------------------------------------- the traced copy


def _module_calls(model: nn.Module, inputs: Tensor, training: bool) -> Counter[nn.Module] | None:
    """How often each module runs in one forward pass; None if that mode does not run at all."""
    calls: Counter[nn.Module] = Counter()

    def count(module: nn.Module, *_: Any) -> None:
        calls[module] += 1

    handles = [module.register_forward_hook(count) for module in model.modules()]
    try:
        with mode_of(model, training), torch.no_grad():
            model(inputs)
    except Exception as problem:
        if not training:
            raise
        logger.warning("the model does not run in train mode: %s", first_line(problem))
        return None
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _trace_mode(
    model: nn.Module,
    inputs: Tensor,
    names: Mapping[nn.Module, str],
    training: bool,
    raw: list[_RawGroup],
    outputs: set[str],
) -> None:
    """Add the groups that Torch-Pruning finds in one mode; note the layers that make the output."""
    producers: dict[Any, str] = {}

    def remember(module: nn.Module, _: Any, output: Any) -> None:
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
                producers.setdefault(tensor.grad_fn, names[module])

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [module.register_forward_hook(remember) for module in leaves]

    def forward(net: nn.Module, example: Tensor) -> list[Tensor]:
        # Torch-Pruning puts the model in eval mode first; this is the one place to undo it.
        result = net.train(training)(example)
        found = [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.grad_fn is not None]
        outputs.update(producers[t.grad_fn] for t in found if t.grad_fn in producers)
        return found

    with mode_of(model, training), torch.enable_grad(), warnings.catch_warnings():
        # Where its shape inference gives up, the trial at the end decides.
        warnings.filterwarnings("ignore", message="Maximum recursive depth")
        try:
            graph = tp.DependencyGraph().build_dependency(
                model, inputs, forward_fn=forward, verbose=False
            )
        except (ArithmeticError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                "the model's channels cannot be traced: Torch-Pruning's dependency graph stops at "
                f"{type(error).__name__}: {first_line(error)}. An operation between its layers "
                "(splitting or shuffling channels) is the usual cause."
            ) from error
        finally:
            for handle in handles:
                handle.remove()
        seen: set[str] = set()
        for module in list(graph.module2node):
            if isinstance(module, (_ConvNd, nn.Linear)) and names.get(module) not in seen:
                seen.update(_add_group(graph, module, names, raw, outputs).producers())


def _add_group(
    graph: Any,
    module: nn.Module,
    names: Mapping[nn.Module, str],
    raw: list[_RawGroup],
    outputs: set[str],
) -> _RawGroup:
    """Add the group of the channels that a layer makes, or what kept it from being found."""
    root, size = names[module], int(graph.get_out_channels(module))
    known = next((g for g in raw if (root, "out") in g.uses), None)
    group = known or _RawGroup(size=size)
    try:
        prune = graph.get_pruner_of_module(module).prune_out_channels
        found = graph.get_pruning_group(module, prune, list(range(size)))
    except (IndexError, KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        group.add(_Use(root, "out", np.arange(size), np.arange(size)))
        group.problem = f"its channels cannot be followed ({type(error).__name__}: {error})"
        raw.extend([] if known else [group])
        return group
    for item in found.items:
        module, node = item.dep.target.module, item.dep.target
        if isinstance(module, nn.Parameter):
            group.problem = "it meets a bare parameter that no known layer owns"
        elif node.type == tp.ops.OPTYPE.OUTPUT:
            outputs.update(group.producers())
        elif module in names and is_sized(module):
            out = graph.is_out_channel_pruning_fn(item.dep.handler)
            into = graph.is_in_channel_pruning_fn(item.dep.handler)
            side = "out" if out else "in"
            if out and into and not isinstance(module, _ConvNd):
                side = "both"
            positions = np.asarray(item.idxs, dtype=np.int64)
            channels = np.asarray(item.root_idxs, dtype=np.int64)
            order = np.argsort(positions, kind="stable")
            group.add(_Use(names[module], side, positions[order], channels[order]))
    if known is None and group.uses:
        raw.append(group)
    return group


# ------------------------------------------------------------------------- what cannot be elastic


def _layer_problems(model: nn.Module) -> dict[str, str]:
    """Layers that must keep all their channels whatever the trace says, with the reason."""
    problems: dict[str, str] = {}
    owners: dict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)].append(name)
        if parametrize.is_parametrized(module):
            problems[name] = "its parameters are parametrized"
        elif axis_kind(module, "out") is not None and "weight" not in module._parameters:
            problems[name] = "its weight is computed by a hook, not stored"
    for layers in owners.values():
        if len(layers) > 1:
            for layer in layers:
                others = ", ".join(other for other in layers if other != layer)
                problems[layer] = f"it shares a parameter with {others or 'itself'}"
    return problems


def _problem_of(
    group: _RawGroup, problems: Mapping[str, str], outputs: Iterable[str]
) -> str | None:
    """Why a traced group cannot be elastic, None if it can."""
    if set(group.producers()) & set(outputs):
        return "its channels are the model's output"
    for layer in group.layers():
        # A parametrization hides its layer's weight one level down.
        owner = layer.split(".parametrizations.")[0]
        if owner in problems:
            return f"{owner}: {problems[owner]}"
    return None


def _tie_grouped_layers(raw: list[_RawGroup], model: nn.Module) -> None:
    """Make the two sides of a grouped convolution one group: whole blocks are kept or dropped."""
    for name, module in model.named_modules():
        if not isinstance(module, _ConvNd) or module.groups == 1:
            continue
        sides = {
            side: next((g for g in raw if (name, side) in g.uses), None) for side in ("in", "out")
        }
        into, out = sides["in"], sides["out"]
        if module.in_channels != module.out_channels or module.transposed:
            for group in (into, out):
                if group is not None:
                    group.problem = (
                        f"{name} is a grouped convolution with other channels in than out"
                    )
            continue
        if into is None or out is None or into is out:
            if into is None and out is not None and module.groups != module.out_channels:
                out.problem = f"{name} is a grouped convolution on channels that are not elastic"
            continue
        if not np.array_equal(into.uses[name, "in"].channels, out.uses[name, "out"].channels):
            into.problem = out.problem = f"{name} is grouped over channels in another order"
            continue
        for use in out.uses.values():
            into.add(use)
        into.problem = into.problem or out.problem
        raw.remove(out)


def _freeze_overlaps(raw: list[_RawGroup]) -> None:
    """Freeze groups that claim the same place of a layer; one place has one channel."""
    claimed: dict[tuple[str, str], dict[int, _RawGroup]] = defaultdict(dict)
    for group in raw:
        for key, use in group.uses.items():
            for position in use.positions.tolist():
                other = claimed[key].setdefault(position, group)
                if other is not group:
                    reason = f"{key[0]} is claimed by two groups of channels"
                    group.problem = group.problem or reason
                    other.problem = other.problem or reason


# ------------------------------------------------------------------------------ from trace to plan


def _build_plan(
    model: nn.Module,
    raw: list[_RawGroup],
    rules: Mapping[str, ChannelRule],
    input_channels: int,
) -> ChannelPlan:
    order = {name: number for number, (name, _) in enumerate(model.named_modules())}
    modules = dict(model.named_modules())
    groups: list[ChannelGroup] = []
    inelastic: list[Inelastic] = []
    segments: dict[tuple[str, str], list[Segment]] = defaultdict(list)
    for group in sorted(raw, key=lambda g: min(order.get(name, 0) for name in g.layers())):
        producers = sorted(
            (n for n in group.producers() if isinstance(modules[n], (_ConvNd, nn.Linear))),
            key=order.__getitem__,
        )
        unknown = [n for n in group.layers() if axis_kind(modules[n], "out") is None]
        problem = group.problem
        if problem is None and unknown:
            layer_type = type(modules[unknown[0]]).__name__
            problem = f"{unknown[0]}: no rule to narrow a {layer_type}"
        steps = {grouped_step(modules[name]) for name in group.layers()}
        step = int(np.lcm.reduce(sorted(steps)))
        if problem is None and (step >= group.size or group.size % step):
            problem = f"its {group.size} channels must stay together"
        if problem is not None:
            inelastic.append(Inelastic(layers=tuple(producers), reason=problem))
            continue
        for (layer, side), use in group.uses.items():
            key = (layer, "both" if is_one_axis(modules[layer]) else side)
            if key in segments and any(s.group == len(groups) for s in segments[key]):
                continue  # the other side of a grouped convolution
            segments[key].append(
                Segment(group=len(groups), positions=use.positions, channels=use.channels)
            )
        groups.append(
            ChannelGroup(
                name=producers[0],
                size=group.size,
                layers=tuple(producers),
                step=step,
                rule=_rule_of(producers, rules),
            )
        )
    axes: dict[str, list[Axis]] = defaultdict(list)
    for (layer, side), parts in segments.items():
        kind = axis_kind(modules[layer], side)
        assert kind is not None  # groups with unknown layers were inelastic above
        tensors = {**modules[layer]._parameters, **modules[layer]._buffers}
        dims = tuple((n, d) for n, d in kind.parameter_dims if tensors.get(n) is not None)
        if dims:
            tensor = tensors[dims[0][0]]
            assert tensor is not None
            size = tensor.shape[dims[0][1]]
        elif kind.attributes:  # a norm without parameters or statistics
            size = int(getattr(modules[layer], kind.attributes[0][0]))
        else:
            continue
        axes[layer].append(
            Axis(
                size=size,
                segments=tuple(parts),
                parameter_dims=dims,
                attributes=kind.attributes,
            )
        )
    return ChannelPlan(
        groups=tuple(groups),
        axes={layer: tuple(found) for layer, found in axes.items()},
        inelastic=tuple(inelastic),
        input_channels=input_channels,
    )


def _rule_of(producers: list[str], rules: Mapping[str, ChannelRule]) -> ChannelRule:
    for pattern, rule in rules.items():
        if any(re.fullmatch(pattern, name) for name in producers):
            return rule
    return PLAIN


def _check_overrides(
    overrides: Mapping[str, ChannelRule] | None, plan: ChannelPlan, model: nn.Module
) -> None:
    for pattern in overrides or {}:
        if not any(re.fullmatch(pattern, name) for name, _ in model.named_modules()):
            raise ValueError(
                f"rules must match the names of layers that make channels, got {pattern!r}, which "
                f"matches none. Elastic layers: {', '.join(g.name for g in plan.groups[:6])}..."
            )
