"""The steps of a training run, as Lightning wants them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._pytree import tree_map
from torchvision.transforms import v2

from mutualnet.config import DataConfig
from mutualnet.optimizer import make_optimizer, parameter_groups, set_learning_rate
from mutualnet.prepare import Prepared
from mutualnet.processes import average_gradients, current_ranks
from mutualnet.sandwich import Member, sandwich_step
from mutualnet.schedules import learning_rate_factor
from mutualnet.seeding import Purpose, generator, seed_of

__all__ = ["SandwichModule", "TrainingDivergedError", "mix_images"]


class TrainingDivergedError(RuntimeError):
    """A loss is not a finite number any more."""


def mix_images(images: Tensor, labels: Tensor, config: DataConfig, num_classes: int) -> Any:
    """Mix the images of a batch with each other by Mixup or CutMix, if the recipe says so.

    Args:
        images: (N, C, H, W).
        labels: (N) class numbers.
        config: Strengths of both; with both of them one is drawn.
        num_classes: K.

    Returns:
        Images and labels (N, K) as shares of classes; as they were if nothing is to be mixed.

    Source: Zhang et al. 2018, https://arxiv.org/abs/1710.09412 (Mixup);
        Yun et al. 2019, https://arxiv.org/abs/1905.04899 (CutMix).
    """
    mixers: list[nn.Module] = []
    if config.mixup_alpha:
        mixers.append(v2.MixUp(alpha=config.mixup_alpha, num_classes=num_classes))
    if config.cutmix_alpha:
        mixers.append(v2.CutMix(alpha=config.cutmix_alpha, num_classes=num_classes))
    if not mixers:
        return images, labels
    return mixers[int(torch.randint(len(mixers), ()))](images, labels)


@dataclass
class _Sum:
    """Losses of a step whose batch was computed in parts."""

    members: tuple[Member, ...] = ()
    losses: Tensor | None = None

    def add(self, members: tuple[Member, ...], weight: float) -> None:
        values = torch.stack([member.loss for member in members]) * weight
        self.losses = values if self.losses is None else self.losses + values
        self.members = members


class SandwichModule(L.LightningModule):
    """One mutual step after another, each decided by the seed and its number alone.

    Args:
        ready: What trains, on what, and how.
        start: Steps that were done before.
    """

    def __init__(self, ready: Prepared, *, start: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.supernet = ready.supernet
        self.ready = ready
        self.recipe = ready.recipe
        self.start = start
        self.done = start
        self.last_losses: dict[str, Tensor] = {}
        config = self.recipe.optimizer
        named = dict(self.supernet.named_parameters())
        groups = parameter_groups(
            self.supernet,
            config,
            initialized=[named[name] for name in ready.initialized_names],
            init_lr_mult=self.recipe.model.init_lr_mult,
        )
        self.optimizer = make_optimizer(groups, config)
        self.average: AveragedModel | None = None
        if config.ema_decay is not None:
            self.average = AveragedModel(
                self.supernet,
                multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay),
                use_buffers=True,
            )

    def configure_optimizers(self) -> Any:
        """The optimizer; its rate is set at every step."""
        return self.optimizer

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Take one step."""
        self.take_step(batch, self.start + batch_idx, self.optimizers())
        self.log_dict(self.last_losses, on_step=True, on_epoch=False)
        self.log("lr", self.optimizer.param_groups[-1]["lr"], on_step=True)
        self.log("step", float(self.done), on_step=True)

    def take_step(self, batch: Any, step: int, optimizer: Any) -> None:
        """Draw sub-networks, add their gradients up, average them, and move the weights.

        Args:
            batch: This process's part of the step's images, at the top resolution.
            step: From 0.
            optimizer: What to step: Lightning counts by a wrapper of its own.

        Raises:
            TrainingDivergedError: If a loss is not finite; the weights are as before.
        """
        recipe, ready, ranks = self.recipe, self.ready, current_ranks()
        torch.manual_seed(seed_of(recipe.seed, Purpose.STEP, step, ranks.rank))
        factor = learning_rate_factor(
            recipe.optimizer,
            step,
            steps_per_epoch=ready.batches.steps_per_epoch,
            total_steps=ready.batches.stop,
        )
        set_learning_rate(self.optimizer, recipe.optimizer.lr * factor)
        optimizer.zero_grad()
        subnets = recipe.method.rule.draw(recipe.space, generator(recipe.seed, Purpose.DRAW, step))
        share = ranks.size / ready.batches.size_of(step)
        total = _Sum()
        for part in self._parts(batch):
            weight = len(ready.training_task.inputs(part)) * share
            members = sandwich_step(
                self.supernet,
                part,
                subnets,
                task=ready.training_task,
                distill=recipe.method.distills,
                autocast=ready.form.autocast,
                weight=weight,
            )
            total.add(members, weight)
        assert total.losses is not None  # a batch has at least one part
        average_gradients(self.supernet, total.losses)
        gradients = [p.grad for p in self.supernet.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        self._check_finite(total, norm, batch, step)
        if recipe.optimizer.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(
                self.supernet.parameters(), recipe.optimizer.clip_norm, norm
            )
        optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.supernet)
        self.done = step + 1
        self.last_losses = self._names(total)

    def _parts(self, batch: Any) -> list[Any]:
        """The batch mixed, taught and cut, as the recipe says."""
        recipe, ready = self.recipe, self.ready
        if recipe.data.mixup_alpha or recipe.data.cutmix_alpha:
            images, labels = batch
            batch = mix_images(images, labels, recipe.data, ready.data.num_classes)
        pieces = ready.task.split(batch, recipe.optimizer.accumulate)
        pieces = [self._in_layout(piece) for piece in pieces]
        if ready.teacher is None:
            return pieces
        taught = []
        for piece in pieces:
            inputs = ready.task.inputs(piece)
            with (
                torch.no_grad(),
                torch.autocast(
                    inputs.device.type, ready.form.autocast, enabled=ready.form.autocast is not None
                ),
            ):
                taught.append((piece, ready.teacher(inputs)))
        return taught

    def _in_layout(self, batch: Any) -> Any:
        layout = self.ready.form.layout

        def arrange(value: Any) -> Any:
            is_image = isinstance(value, Tensor) and value.dim() == 4
            return value.contiguous(memory_format=layout) if is_image else value

        return tree_map(arrange, batch)

    def _names(self, total: _Sum) -> dict[str, Tensor]:
        """Losses by the part each sub-network plays; `ce` on labels, `kl` on the largest."""
        assert total.losses is not None
        members, rule = total.members, self.recipe.method.rule
        if rule.every_width:
            parts = ["largest", *(f"width{m.subnet.width_mult:g}" for m in members[1:])]
        else:
            parts = ["largest", *(f"random{i + 1}" for i in range(len(members) - 1))]
            if rule.include_smallest and len(members) > 1:
                parts[-1] = "smallest"
        kinds = {"labels": "ce", "largest": "kl"}
        return {
            f"{kinds[member.target]}_{part}": loss
            for part, member, loss in zip(parts, members, total.losses, strict=True)
        }

    def _check_finite(self, total: _Sum, norm: Tensor, batch: Any, step: int) -> None:
        assert total.losses is not None
        is_finite = total.losses.isfinite()
        if bool(is_finite.all() & norm.isfinite()):
            return
        if not bool(self.ready.task.inputs(batch).isfinite().all()):
            raise TrainingDivergedError(
                f"the images of step {step + 1} hold values that are not finite numbers. The "
                "weights were not updated by them. Repair the data or its transform."
            )
        if bool(is_finite.all()):
            raise TrainingDivergedError(
                f"the gradient of step {step + 1} is {float(norm)} while the losses are finite. "
                "The weights were not updated by it. Lower optimizer.lr, or train in fp32."
            )
        bad = int((~is_finite).nonzero()[0])
        raise TrainingDivergedError(
            f"the loss of sub-network {total.members[bad].subnet} is {float(total.losses[bad])} "
            f"at step {step + 1}. The weights were not updated by it. Lower optimizer.lr, add "
            "warm-up (optimizer.warmup_epochs), or train in fp32 (precision.precision=fp32)."
        )

    # ------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Any]:
        """Everything that the steps to come depend on, besides the recipe."""
        return {
            "step": self.done,
            "stop": self.ready.batches.stop,
            "num_ranks": current_ranks().size,
            "data_id": self.ready.data.data_id,
            "initialized": list(self.ready.initialized_names),
            "supernet": self.supernet.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state()` gave."""
        self.supernet.load_state_dict(state["supernet"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def finish(self) -> None:
        """End with the averaged weights, where the recipe asks for them."""
        if self.average is not None:
            self.supernet.load_state_dict(self.average.module.state_dict())
