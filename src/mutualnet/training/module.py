"""The steps of a training run, as Lightning wants them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._pytree import tree_map

from mutualnet.config import OptimizerConfig
from mutualnet.distributed import average_gradients, current_ranks
from mutualnet.seeding import Purpose, generator, seed_of
from mutualnet.supernet import Supernet
from mutualnet.training.divergence import check_finite, naming_step
from mutualnet.training.history import History
from mutualnet.training.layer_decay import spared_names
from mutualnet.training.learning import learn
from mutualnet.training.mixup import mix_images
from mutualnet.training.optimizer import (
    forget_momentum,
    keep_frozen,
    make_optimizer,
    parameter_groups,
    set_learning_rate,
)
from mutualnet.training.schedules import learning_rate_factor
from mutualnet.training.setup import TrainingSetup
from mutualnet.training.step_losses import (
    LossTerm,
    StepLosses,
    describe_losses,
    network_suffix,
)

CHECKPOINT_VERSION = 4
"""Changes whenever a checkpoint holds something else than before."""
READABLE_CHECKPOINTS = (2, 3, CHECKPOINT_VERSION)
"""Versions of checkpoints that can be resumed from; the first has no history."""


class TrainingModule(L.LightningModule):
    """One step after another, each decided by the seed and its place in the run alone.

    Args:
        setup: What trains, on what, and how.
        start: Steps that were done before.
    """

    def __init__(self, setup: TrainingSetup, *, start: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.training_setup = setup
        self.recipe = setup.recipe
        self.start = start
        self.done = start
        self.last_losses: dict[str, Tensor] = {}
        """Every term of the last step, by its name in the log."""
        self.history = History()
        self._terms: tuple[LossTerm, ...] = ()
        # Registered, so that Lightning moves them and sets their mode; the teacher's stays.
        self.networks = nn.ModuleList(trained.modules for trained in setup.networks)
        teaching, indices = self.recipe.teaching, list(range(len(setup.networks)))
        are_joined = teaching.optimizers == "one" and not self.recipe.learns_in_turn
        self._indices = [indices] if are_joined else [[index] for index in indices]
        """Indices of the networks of each optimizer."""
        self.torch_optimizers = [
            make_optimizer(
                [group for index in joined for group in self._new_groups(index)],
                setup.networks[joined[0]].optimizer,
            )
            for joined in self._indices
        ]
        self._unmoved = [copy.deepcopy(o.state_dict()) for o in self.torch_optimizers]
        """The optimizers' states before the first step."""
        self.averages = [self._average(index) for index in indices]

    def _new_groups(self, index: int) -> list[dict[str, Any]]:
        trained = self.training_setup.networks[index]
        named = dict(trained.supernet.named_parameters())
        groups = parameter_groups(
            trained.modules,
            trained.optimizer,
            initialized=[named[name] for name in trained.origin.initialized_names],
            init_lr_mult=trained.init_lr_mult,
            layer_shares={named[name]: share for name, share in trained.layer_shares.items()},
            spared=[named[f"model.{name}"] for name in spared_names(trained.supernet.model)],
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
        """Losses of the last step's terms for people.

        Args:
            losses: By their names in the log, by default the means of this epoch so far.
        """
        losses = self.history.means() if losses is None else losses
        return describe_losses(self._terms, losses, len(self.networks))

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
            for group in optimizer.param_groups:
                name = f"lr{network_suffix(group['network'], len(self.networks))}"
                rate = float(group["lr"])
                rates[name] = max(rate, rates.get(name, rate))
        self.history.end_epoch(self.epoch_of(self.done), self.done, rates)

    def shipped(self) -> list[Supernet]:
        """Each network with the weights that the run would end with now: averaged, if it does."""
        found = []
        for trained, average in zip(self.training_setup.networks, self.averages, strict=True):
            modules = trained.modules if average is None else average.module
            assert isinstance(modules, nn.ModuleList)  # what was averaged
            supernet = modules[0]
            assert isinstance(supernet, Supernet)
            found.append(supernet)
        return found

    def take_step(self, batch: Any, step: int, optimizers: Sequence[Any] | None = None) -> None:
        """Draw sub-networks, add their gradients up, average them, and move the weights.

        Args:
            batch: This process's share of the step's images, at the top resolution.
            step: From 0.
            optimizers: What to step in place of the module's own: Lightning counts by wrappers.

        Raises:
            TrainingDivergedError: If a loss is not finite. The weights are as before, but for those
                of networks that had their turn before the one that it names.
        """
        optimizers = optimizers or self.torch_optimizers
        self._begin_step(step, optimizers)
        recipe, setup = self.recipe, self.training_setup
        subnets = recipe.method.value.draw(recipe.space, generator(recipe.seed, Purpose.DRAW, step))
        share = current_ranks().size / setup.batches.size_of(step)
        losses = StepLosses()

        for micro_batch in self._micro_batches(batch):
            weight = setup.task.num_samples(micro_batch) * share
            with naming_step(step):
                for index, found in learn(setup, micro_batch, subnets, weight):
                    losses.add(found, weight)
                    if recipe.learns_in_turn:
                        norm = self._average_and_check(index, losses, batch, step)
                        self._clip_and_step(index, optimizers[index], norm)
        if not recipe.learns_in_turn:
            # All are checked before the first one moves.
            places = range(len(self._indices))
            norms = [self._average_and_check(place, losses, batch, step) for place in places]
            for place, (optimizer, norm) in enumerate(zip(optimizers, norms, strict=True)):
                self._clip_and_step(place, optimizer, norm)
        self._end_step(step, losses)

    def _begin_step(self, step: int, optimizers: Sequence[Any]) -> None:
        torch.manual_seed(seed_of(self.recipe.seed, Purpose.STEP, step, current_ranks().rank))
        self._set_learning_rates(step)
        for optimizer in optimizers:
            optimizer.zero_grad()

    def _end_step(self, step: int, losses: StepLosses) -> None:
        for trained, average in zip(self.training_setup.networks, self.averages, strict=True):
            if average is not None:
                average.update_parameters(trained.modules)
        self.done = step + 1
        self._terms = tuple(losses.values)
        self.last_losses = {term.name: loss for term, loss in losses.values.items()}
        self.history.add(self.last_losses, self.training_setup.batches.size_of(step))

    def _set_learning_rates(self, step: int) -> None:
        batches = self.training_setup.batches
        for indices, optimizer, unmoved in zip(
            self._indices, self.torch_optimizers, self._unmoved, strict=True
        ):
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
                    forget_momentum(optimizer, unmoved, index)

    def _average_and_check(self, place: int, losses: StepLosses, batch: Any, step: int) -> Tensor:
        """Average the gradients of an optimizer's networks over all processes; return their norm.

        That of parameters that are to stay is none.
        """
        indices = self._indices[place]
        keep_frozen(self.torch_optimizers[place].param_groups)
        networks = nn.ModuleList(self.networks[index] for index in indices)
        terms, values = losses.of(indices)
        average_gradients(networks, values)
        losses.replace(terms, values)
        gradients = [p.grad for p in networks.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        check_finite(self.training_setup, terms, values, norm, batch, step)
        return norm

    def _clip_and_step(self, place: int, optimizer: Any, norm: Tensor) -> None:
        """Move the networks of the optimizer at that place."""
        indices = self._indices[place]
        networks = nn.ModuleList(self.networks[index] for index in indices)
        clip_norm = self.training_setup.networks[indices[0]].optimizer.clip_norm
        if clip_norm is not None:
            nn.utils.clip_grads_with_norm_(networks.parameters(), clip_norm, norm)
        optimizer.step()

    def _micro_batches(self, batch: Any) -> list[Any]:
        """The batch mixed and cut for gradient accumulation, as the recipe says."""
        recipe, setup = self.recipe, self.training_setup
        if recipe.data.mixup_alpha or recipe.data.cutmix_alpha:
            images, labels = batch
            batch = mix_images(images, labels, recipe.data, setup.data.num_classes)
        micro_batches = setup.task.split(batch, recipe.optimizer.accumulate)
        return [self._in_layout(micro_batch) for micro_batch in micro_batches]

    def _in_layout(self, batch: Any) -> Any:
        return tree_map(self.training_setup.compute_format.arranged, batch)

    def state(self) -> dict[str, Any]:
        """Everything that the steps to come depend on, besides the recipe."""
        networks = self.training_setup.networks
        return {
            "format_version": CHECKPOINT_VERSION,
            "step": self.done,
            "stop": self.training_setup.batches.stop,
            "num_ranks": current_ranks().size,
            "data_id": self.training_setup.data.data_id,
            "teacher_hash": self.training_setup.teacher_hash,
            "initialized": [list(trained.origin.initialized_names) for trained in networks],
            "sorted_by": [trained.origin.sorted_by for trained in networks],
            "networks": [trained.supernet.state_dict() for trained in networks],
            "heads": [
                None if trained.heads is None else trained.heads.state_dict()
                for trained in networks
            ],
            "optimizers": [optimizer.state_dict() for optimizer in self.torch_optimizers],
            "averages": [
                None if average is None else average.state_dict() for average in self.averages
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


def _is_drop(config: OptimizerConfig, step: int, steps_per_epoch: int) -> bool:
    """Whether the learning rate has just dropped, and the momentum is to be reset."""
    if not config.reset_momentum or config.schedule != "step" or step % steps_per_epoch:
        return False
    return step // steps_per_epoch in config.milestones
