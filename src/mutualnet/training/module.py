"""The steps of a training run, as Lightning wants them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._pytree import tree_map

from mutualnet.batch_checks import NonFiniteImagesError
from mutualnet.config import OptimizerConfig
from mutualnet.distributed import average_gradients, current_ranks
from mutualnet.methods import SandwichRule
from mutualnet.peers import PeerStepResult, peer_step, peer_step_in_turn
from mutualnet.sandwich import active_network, sandwich_step
from mutualnet.seeding import Purpose, generator, seed_of
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from mutualnet.teaching import Edge, TeachingGraph
from mutualnet.training.history import History
from mutualnet.training.mixup import mix_images
from mutualnet.training.optimizer import (
    forget_momentum,
    make_optimizer,
    parameter_groups,
    set_learning_rate,
)
from mutualnet.training.schedules import learning_rate_factor
from mutualnet.training.setup import TrainingSetup

CHECKPOINT_VERSION = 3
"""Changes whenever a checkpoint holds something else than before."""
READABLE_CHECKPOINTS = (2, CHECKPOINT_VERSION)
"""Versions of checkpoints that can be resumed from; the first has no history."""


class TrainingDivergedError(RuntimeError):
    """A loss is not a finite number any more."""


@dataclass(frozen=True, slots=True)
class _Term:
    """One loss of a step."""

    name: str
    """In the log."""
    source: str
    """What it is the loss of, for people."""
    network: int
    """Number of the network that learned from it."""


@dataclass
class _Terms:
    """Losses of a step, averaged over its micro-batches."""

    losses: dict[_Term, Tensor] = field(default_factory=dict)

    def add(self, found: Iterable[tuple[_Term, Tensor]], weight: float) -> None:
        for term, loss in found:
            before = self.losses.get(term)
            self.losses[term] = loss * weight if before is None else before + loss * weight

    def of(self, indices: Sequence[int]) -> tuple[list[_Term], Tensor]:
        terms = [term for term in self.losses if term.network in indices]
        return terms, torch.stack([self.losses[term] for term in terms])


class TrainingModule(L.LightningModule):
    """One step after another, each decided by the seed and its number alone.

    Args:
        setup: What trains, on what, and how.
        start: Steps that were done before.
    """

    def __init__(self, setup: TrainingSetup, *, start: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.training_setup = setup
        self.recipe = setup.recipe
        self.graph = setup.recipe.graph
        self.start = start
        self.done = start
        self.last_losses: dict[str, Tensor] = {}
        """Every term of the last step, by its name in the log."""
        self.history = History()
        self._terms: tuple[_Term, ...] = ()
        # Registered, so that Lightning moves them and sets their mode; the teacher's stays.
        self.networks = nn.ModuleList(trained.modules for trained in setup.networks)
        teaching, indices = self.recipe.teaching, list(range(len(setup.networks)))
        self._in_turn = self.recipe.learns_in_turn
        are_joined = teaching.optimizers == "one" and not self._in_turn
        self._sets = [indices] if are_joined else [[index] for index in indices]
        """Networks of each optimizer."""
        self.torch_optimizers = [
            make_optimizer([group for index in trained for group in self._new_groups(index)])
            for trained in self._sets
        ]
        self.averages = [self._average(index) for index in indices]

    def _new_groups(self, index: int) -> list[dict[str, Any]]:
        trained = self.training_setup.networks[index]
        named = dict(trained.supernet.named_parameters())
        groups = parameter_groups(
            trained.modules,
            trained.optimizer,
            initialized=[named[name] for name in trained.initialized_names],
            init_lr_mult=trained.init_lr_mult,
        )
        return [{**group, "network": index} for group in groups]

    def _average(self, index: int) -> AveragedModel | None:
        trained = self.training_setup.networks[index]
        if trained.optimizer.ema_decay is None:
            return None
        return AveragedModel(
            trained.modules,
            multi_avg_fn=get_ema_multi_avg_fn(trained.optimizer.ema_decay),
            use_buffers=True,
        )

    def describe_losses(self, losses: Mapping[str, float] | None = None) -> str:
        """Losses for people; where they are many, summed over each network's of one kind.

        Args:
            losses: By their names in the log, by default the means of this epoch so far.
        """
        losses = self.history.means() if losses is None else losses
        terms = [term for term in self._terms if term.name in losses]
        kept = {term.name: [term.name] for term in terms}
        if len(terms) > _MOST_SHOWN:
            kept = {}
            for term in terms:
                index = "" if len(self.networks) == 1 else f"_{term.network + 1}"
                kept.setdefault(f"{term.name[:2]}{index}", []).append(term.name)
        text = ", ".join(
            f"{name} {sum(losses[part] for part in parts):.3f}" for name, parts in kept.items()
        )
        return text if len(kept) == len(terms) else f"{text} (sums of {len(terms)} terms)"

    def configure_optimizers(self) -> Any:
        """The optimizers; their learning rates are set at every step."""
        return self.torch_optimizers

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Take one step."""
        wrapped = self.optimizers()
        optimizers = wrapped if isinstance(wrapped, list) else [wrapped]
        self.take_step(batch, self.start + batch_idx, optimizers)

    @property
    def num_epochs(self) -> int:
        """Epochs of the run; a last one that is cut short counts."""
        return self.epoch_of(self.training_setup.batches.stop)

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that the last of so many steps belongs to."""
        return -(-step // self.training_setup.batches.steps_per_epoch)

    def ends_epoch(self) -> bool:
        """Whether the last step was an epoch's or the run's last one."""
        batches = self.training_setup.batches
        return self.done == batches.stop or self.done % batches.steps_per_epoch == 0

    def end_epoch(self) -> None:
        """Close the epoch's row of the history."""
        rates: dict[str, float] = {}
        for optimizer in self.torch_optimizers:
            for group in optimizer.param_groups:  # a network's last has the full one
                index = "" if len(self.networks) == 1 else f"_{group['network'] + 1}"
                rates[f"lr{index}"] = float(group["lr"])
        self.history.end_epoch(self.epoch_of(self.done), self.done, rates)

    def shipped(self) -> list[Supernet]:
        """Each network with the weights that the run would end with now: averaged, if it does."""
        found = []
        for trained, average in zip(self.training_setup.networks, self.averages, strict=True):
            parts = trained.modules if average is None else average.module
            assert isinstance(parts, nn.ModuleList)  # what was averaged
            supernet = parts[0]
            assert isinstance(supernet, Supernet)
            found.append(supernet)
        return found

    def take_step(self, batch: Any, step: int, optimizers: Sequence[Any] | None = None) -> None:
        """Draw sub-networks, add their gradients up, average them, and move the weights.

        Args:
            batch: This process's part of the step's images, at the top resolution.
            step: From 0.
            optimizers: What to step in place of the module's own: Lightning counts by wrappers.

        Raises:
            TrainingDivergedError: If a loss is not finite. The weights are as before, but for those
                of networks that had their turn before the one that it names.
        """
        recipe, setup, ranks = self.recipe, self.training_setup, current_ranks()
        torch.manual_seed(seed_of(recipe.seed, Purpose.STEP, step, ranks.rank))
        self._set_rates(step)
        optimizers = optimizers or self.torch_optimizers
        for optimizer in optimizers:
            optimizer.zero_grad()
        subnets = recipe.method.value.draw(recipe.space, generator(recipe.seed, Purpose.DRAW, step))
        share = ranks.size / setup.batches.size_of(step)
        terms = _Terms()

        for part in self._parts(batch):
            weight = len(setup.task.inputs(part)) * share
            try:
                for index, found in self._learn(part, subnets, weight):
                    terms.add(found, weight)
                    if self._in_turn:
                        norm = self._average_and_check([index], terms, batch, step)
                        self._clip_and_step([index], optimizers[index], norm)
            except NonFiniteImagesError as error:
                raise TrainingDivergedError(
                    f"the images of step {step + 1} hold values that are not finite numbers. The "
                    f"weights were not updated by it: {error}"
                ) from None
        if not self._in_turn:
            norms = [self._average_and_check(trained, terms, batch, step) for trained in self._sets]
            for indices, optimizer, norm in zip(self._sets, optimizers, norms, strict=True):
                self._clip_and_step(indices, optimizer, norm)
        for trained, average in zip(setup.networks, self.averages, strict=True):
            if average is not None:
                average.update_parameters(trained.modules)
        self.done = step + 1
        self._terms = tuple(terms.losses)
        self.last_losses = {term.name: loss for term, loss in terms.losses.items()}
        self.history.add(self.last_losses, setup.batches.size_of(step))

    def _set_rates(self, step: int) -> None:
        batches = self.training_setup.batches
        for indices, optimizer in zip(self._sets, self.torch_optimizers, strict=True):
            for index in indices:
                config = self.training_setup.networks[index].optimizer
                groups = [g for g in optimizer.param_groups if g["network"] == index]
                factor = learning_rate_factor(
                    config,
                    step,
                    steps_per_epoch=batches.steps_per_epoch,
                    total_steps=batches.stop,
                )
                set_learning_rate(groups, config.lr * factor)
                if _is_drop(config, step, batches.steps_per_epoch):
                    forget_momentum(optimizer, groups)

    # ---------------------------------------------------------------------------------- learning

    def _learn(
        self, part: Any, subnets: tuple[Subnet, ...], weight: float
    ) -> Iterator[tuple[int, list[tuple[_Term, Tensor]]]]:
        """Add up the gradients of every network in turn; yields its number and its losses."""
        if self.recipe.has_teaching:
            yield from self._teach(part, subnets, weight)
            return
        for index in range(len(self.training_setup.networks)):
            yield index, list(self._sandwich(index, part, subnets, weight))

    def _teach(
        self, part: Any, subnets: tuple[Subnet, ...], weight: float
    ) -> Iterator[tuple[int, list[tuple[_Term, Tensor]]]]:
        """Let networks learn from each other and their narrower ones from them.

        Yields:
            Number of a network whose gradient is there, and its losses. With updates in turn it
            must be moved before the next one is asked for.
        """
        setup, step = (
            self.training_setup,
            peer_step_in_turn if self._in_turn else _peer_step_at_once,
        )
        with ExitStack() as stack:
            networks = [
                stack.enter_context(active_network(trained.supernet, subnets[0]))
                for trained in setup.networks
            ]
            if setup.teacher is not None:
                networks.append(setup.teacher)
            for index, result in step(
                networks,
                setup.task.scale(part, subnets[0]),
                self.graph,
                task=setup.task,
                heads={
                    n: trained.heads for n, trained in enumerate(setup.networks) if trained.heads
                },
                autocast=setup.compute_format.autocast,
                weight=weight,
            ):
                terms = [(_of_edge(edge), loss) for edge, loss in result.losses.items()]
                if subnets[1:]:
                    output = result.outputs[index]
                    terms += self._sandwich(index, part, subnets, weight, output)
                yield index, terms

    def _sandwich(
        self,
        index: int,
        part: Any,
        subnets: tuple[Subnet, ...],
        weight: float,
        teacher: Any = None,
    ) -> Iterator[tuple[_Term, Tensor]]:
        """Losses of one network's sub-networks; given a teacher, of all but the largest."""
        recipe, setup = self.recipe, self.training_setup
        losses = sandwich_step(
            setup.networks[index].supernet,
            part,
            subnets if teacher is None else subnets[1:],
            task=setup.task,
            distill=recipe.method.value.distills,
            autocast=setup.compute_format.autocast,
            weight=weight,
            teacher=teacher,
        )
        names = _part_names(subnets, recipe.method.value.rule)[-len(losses) :]
        for name, of_subnet in zip(names, losses, strict=True):
            kind = "ce" if of_subnet.target == "labels" else "kl"
            source = f"sub-network {of_subnet.subnet}"
            if len(setup.networks) > 1:
                name = f"{index + 1}" if name == "largest" else f"{index + 1}_{name}"
                source += f" of network {index + 1}"
            yield _Term(f"{kind}_{name}", source, index), of_subnet.loss

    def _average_and_check(
        self, indices: Sequence[int], terms: _Terms, batch: Any, step: int
    ) -> Tensor:
        """Average some networks' gradients over all processes; return the norm of the whole."""
        trained = nn.ModuleList(self.networks[index] for index in indices)
        names, losses = terms.of(indices)
        average_gradients(trained, losses)
        for term, loss in zip(names, losses, strict=True):
            terms.losses[term] = loss
        norm = nn.utils.get_total_norm([p.grad for p in trained.parameters() if p.grad is not None])
        self._check_finite(names, losses, norm, batch, step)
        return norm

    def _clip_and_step(self, indices: Sequence[int], optimizer: Any, norm: Tensor) -> None:
        trained = nn.ModuleList(self.networks[index] for index in indices)
        clip_norm = self.training_setup.networks[indices[0]].optimizer.clip_norm
        if clip_norm is not None:
            nn.utils.clip_grads_with_norm_(trained.parameters(), clip_norm, norm)
        optimizer.step()

    def _parts(self, batch: Any) -> list[Any]:
        """The batch mixed and cut, as the recipe says."""
        recipe, setup = self.recipe, self.training_setup
        if recipe.data.mixup_alpha or recipe.data.cutmix_alpha:
            images, labels = batch
            batch = mix_images(images, labels, recipe.data, setup.data.num_classes)
        pieces = setup.task.split(batch, recipe.optimizer.accumulate)
        return [self._in_layout(piece) for piece in pieces]

    def _in_layout(self, batch: Any) -> Any:
        layout = self.training_setup.compute_format.layout

        def arrange(value: Any) -> Any:
            is_image = isinstance(value, Tensor) and value.dim() == 4
            return value.contiguous(memory_format=layout) if is_image else value

        return tree_map(arrange, batch)

    def _check_finite(
        self, names: list[_Term], losses: Tensor, norm: Tensor, batch: Any, step: int
    ) -> None:
        kept = "The weights were not updated by it."
        if self._in_turn:
            kept = f"Network {names[0].network + 1} was not updated by it, those before it were."
        is_finite = losses.isfinite()
        if bool(is_finite.all() & norm.isfinite()):
            return
        if not bool(self.training_setup.task.inputs(batch).isfinite().all()):
            raise TrainingDivergedError(
                f"the images of step {step + 1} hold values that are not finite numbers. {kept} "
                "Repair the data or its transform."
            )
        if bool(is_finite.all()):
            raise TrainingDivergedError(
                f"the gradient of step {step + 1} is {float(norm)} while the losses are finite. "
                f"{kept} Lower optimizer.lr, or train in fp32."
            )
        bad = int((~is_finite).nonzero()[0])
        raise TrainingDivergedError(
            f"the loss of {names[bad].source} is {float(losses[bad])} at step {step + 1}. {kept} "
            "Lower optimizer.lr, add warm-up (optimizer.warmup_epochs), or train in fp32 "
            "(compute.precision=fp32)."
        )

    # ------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Any]:
        """Everything that the steps to come depend on, besides the recipe."""
        networks = self.training_setup.networks
        return {
            "format_version": CHECKPOINT_VERSION,
            "step": self.done,
            "stop": self.training_setup.batches.stop,
            "num_ranks": current_ranks().size,
            "data_id": self.training_setup.data.data_id,
            "initialized": [list(trained.initialized_names) for trained in networks],
            "networks": [trained.supernet.state_dict() for trained in networks],
            "heads": [
                None if trained.heads is None else trained.heads.state_dict()
                for trained in networks
            ],
            "optimizers": [optimizer.state_dict() for optimizer in self.torch_optimizers],
            "averages": [
                None if trained is None else trained.state_dict() for trained in self.averages
            ],
            "history": self.history.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state()` gave."""
        if "history" in state:
            self.history.load_state(state["history"])
        for trained, network, heads in zip(
            self.training_setup.networks, state["networks"], state["heads"], strict=True
        ):
            trained.supernet.load_state_dict(network)
            if trained.heads is not None:
                trained.heads.load_state_dict(heads)
        for optimizer, values in zip(self.torch_optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        for average, values in zip(self.averages, state["averages"], strict=True):
            if average is not None:
                average.load_state_dict(values)

    def finish(self) -> None:
        """End with the averaged weights, where the recipe asks for them."""
        for trained, average in zip(self.training_setup.networks, self.averages, strict=True):
            if average is not None:
                trained.modules.load_state_dict(average.module.state_dict())


_MOST_SHOWN = 6
"""More losses than these are summed for people."""


def _peer_step_at_once(
    networks: Sequence[nn.Module], batch: Any, graph: TeachingGraph, **options: Any
) -> Iterator[tuple[int, PeerStepResult]]:
    """A joint step, in the shape of one in turn: each network that learns with its own losses."""
    result = peer_step(networks, batch, graph, **options)
    for index in sorted({edge.student.network for edge in graph.edges}):
        trained = {e: loss for e, loss in result.losses.items() if e.student.network == index}
        yield index, PeerStepResult(losses=trained, outputs=result.outputs)


def _of_edge(edge: Edge) -> _Term:
    return _Term(str(edge), f"network {edge.student} ({edge})", edge.student.network)


def _part_names(subnets: Sequence[Subnet], rule: SandwichRule) -> list[str]:
    """The part that each sub-network of a step plays, for the log."""
    if rule.every_width:
        return ["largest", *(f"width{subnet.width_mult:g}" for subnet in subnets[1:])]
    names = ["largest", *(f"random{i + 1}" for i in range(len(subnets) - 1))]
    if rule.include_smallest and len(names) > 1:
        names[-1] = "smallest"
    return names


def _is_drop(config: OptimizerConfig, step: int, steps_per_epoch: int) -> bool:
    """Whether the learning rate has just dropped, and the momentum is to be reset."""
    if not config.reset_momentum or config.schedule != "step" or step % steps_per_epoch:
        return False
    return step // steps_per_epoch in config.milestones
