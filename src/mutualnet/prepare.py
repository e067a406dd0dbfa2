"""From a recipe to everything that its training run needs."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mutualnet.config import DataConfig, Recipe
from mutualnet.data import DataSplits, load_data
from mutualnet.data.feeding import TrainBatches, train_loader
from mutualnet.data.splits import SomeImages, hash_data, stratified_split
from mutualnet.models import create_model
from mutualnet.probe import Format, choose_format
from mutualnet.processes import broadcast_model, current_ranks, from_first, training_device
from mutualnet.runs import load_run
from mutualnet.seeding import Purpose, generator, seed_of
from mutualnet.supernet import Supernet
from mutualnet.tasks import Classification, MultiLabel, Task, Taught
from mutualnet.weights import copy_weights, pretrained_model

__all__ = ["Prepared", "load_splits", "plain_task", "prepare", "training_task"]


@dataclass
class Prepared:
    """All that a training run needs."""

    recipe: Recipe
    data: DataSplits
    task: Task
    """What is learned and scored."""
    training_task: Task
    """The same with all that concerns its losses, and with a teacher if there is one."""
    teacher: nn.Module | None
    supernet: Supernet
    initialized_names: tuple[str, ...]
    """Parameters of the supernet whose values came from elsewhere."""
    batches: TrainBatches
    form: Format

    def loader(self, start: int = 0) -> DataLoader[Any]:
        """The images of every step from one on."""
        self.batches.start = start
        return train_loader(self.data.train, self.batches, num_workers=self.recipe.data.num_workers)


def load_splits(recipe: Recipe) -> DataSplits:
    """The recipe's data at the top resolution."""
    data = load_data(
        recipe.data.name,
        recipe.data.path,
        resolution=recipe.space.resolutions[0],
        select_share=recipe.data.select_share,
        seed=recipe.seed,
        augment=recipe.data.augment,
        policy=recipe.data.policy,
        cutout=recipe.data.cutout,
    )
    share = recipe.data.train_share
    if share == 1:
        return data
    labels = data.train.labels
    _, kept = stratified_split(
        labels if labels.ndim == 1 else np.zeros(len(labels), dtype=np.int64),
        share,
        seed=recipe.seed,
        purpose="train",
        class_names=data.class_names if labels.ndim == 1 else ("images",),
    )
    parts = {"train": (kept.astype(str), labels[kept].tolist())}
    return replace(data, train=SomeImages(data.train, kept), data_id=hash_data(data.data_id, parts))


def plain_task(recipe: Recipe) -> Task:
    """The task of a recipe, to run and score a trained network.

    Raises:
        ValueError: If the task is unknown.
    """
    name = recipe.task
    if name == "classification":
        return Classification()
    if name == "multilabel":
        return MultiLabel()
    module, separator, function = name.partition(":")
    if not separator:
        raise ValueError(
            "task must be classification, multilabel, or package.module:function for one of "
            f"yours, got {name!r}"
        )
    try:
        task = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"task {name!r} cannot be imported ({error})") from None
    if not isinstance(task, Task):
        raise ValueError(f"{name} must return a Task, got {type(task).__name__}")
    return task


def training_task(recipe: Recipe, data: DataSplits, *, tau: float = 1.0) -> Task:
    """The task of a recipe with all that concerns its losses.

    Args:
        recipe: Names the task, label smoothing and the balance of the classes.
        data: Counts the classes.
        tau: Temperature of the distillation loss.

    Raises:
        ValueError: If the task is unknown or does not fit the data.
    """
    task, is_weighted = plain_task(recipe), recipe.data.balance == "loss"
    if ":" not in recipe.task and recipe.task != data.task:
        raise ValueError(f"task must be {data.task} for data {data.name}, got {recipe.task}")
    labels = data.train.labels
    if ":" in recipe.task:
        ignored = {"label_smoothing": recipe.label_smoothing, "data.balance=loss": is_weighted}
        ignored["teacher.tau"] = tau != 1
        for name, is_set in ignored.items():
            if is_set:
                raise ValueError(f"{name} is for the library's tasks; {recipe.task} has its own")
        return task
    if recipe.label_smoothing and not isinstance(task, Classification):
        raise ValueError("label_smoothing is for class labels; set it to 0 for other tasks")
    if isinstance(task, MultiLabel):
        least = 1 / len(labels)
        share = labels.mean(0).clip(least, 1 - least)
        weights = tuple(((1 - share) / share).tolist()) if is_weighted else None
        return MultiLabel(tau=tau, positive_weights=weights)
    counts = np.bincount(labels, minlength=data.num_classes)
    even = len(labels) / data.num_classes
    return Classification(
        label_smoothing=recipe.label_smoothing,
        tau=tau,
        class_weights=tuple((even / counts).tolist()) if is_weighted else None,
    )


def prepare(
    recipe: Recipe,
    *,
    form: Format | None = None,
    limit_steps: int | None = None,
    initialized: Sequence[str] | None = None,
) -> Prepared:
    """Load the data, build the network, and choose its format.

    Args:
        recipe: What to train.
        form: Number format and memory layout; by default what the recipe says or a probe finds.
        limit_steps: Most steps, at which cosine and linear schedules end then.
        initialized: Parameters whose values came from elsewhere before; an interrupted run goes on
            from its own state, and nothing is read from `model.init` again.

    Raises:
        ValueError: If the recipe does not fit its data, model or machine.
    """
    ranks, device = current_ranks(), training_device()
    data = load_splits(recipe)
    batches = _batches(recipe, data)
    total = recipe.optimizer.epochs * batches.steps_per_epoch
    batches.stop = total if limit_steps is None else min(total, limit_steps)
    torch.manual_seed(seed_of(recipe.seed, Purpose.WEIGHTS))
    supernet, copied = _build(recipe, data, device, initialized)
    broadcast_model(supernet)
    task = training_task(recipe, data)
    teacher, taught = _teach(recipe, data, task, device)
    if form is None:
        side = recipe.space.resolutions[0]
        size = max(2, min(recipe.data.batch_size, len(data.train)) // ranks.size)
        size = max(2, size // recipe.optimizer.accumulate)
        noise = torch.Generator().manual_seed(0)
        images = torch.randn(size, data.in_channels, side, side, generator=noise)
        labels = torch.as_tensor(data.train.labels[:1]).expand(size, *data.train.labels.shape[1:])
        batch = images.to(device), labels.to(device)
        draw = recipe.method.rule.draw(recipe.space, generator(0, Purpose.DRAW, 0))
        form = from_first(choose_format(supernet, batch, draw, task, recipe.precision))
    supernet.model.to(memory_format=form.layout)  # type: ignore[call-overload]
    return Prepared(
        recipe=recipe,
        data=data,
        task=task,
        training_task=taught,
        teacher=teacher,
        supernet=supernet,
        initialized_names=copied,
        batches=batches,
        form=form,
    )


def _batches(recipe: Recipe, data: DataSplits) -> TrainBatches:
    ranks, config = current_ranks(), recipe.data
    _check_mixing(config, data)
    return TrainBatches(
        data.train.labels,
        config.batch_size,
        seed=recipe.seed,
        rank=ranks.rank,
        num_ranks=ranks.size,
        parts=recipe.optimizer.accumulate,
        balanced=config.balance == "sampling",
    )


def _check_mixing(config: DataConfig, data: DataSplits) -> None:
    if (config.mixup_alpha or config.cutmix_alpha) and data.task != "classification":
        raise ValueError("Mixup and CutMix mix class labels; these images have other ones")
    if config.balance == "sampling" and data.task != "classification":
        raise ValueError("balance=sampling needs one class per image; use balance=loss")


def _build(
    recipe: Recipe, data: DataSplits, device: torch.device, known: Sequence[str] | None
) -> tuple[Supernet, tuple[str, ...]]:
    model = create_model(
        recipe.model.name,
        num_classes=data.num_classes,
        in_channels=data.in_channels,
        **recipe.model.kwargs,
    )
    copied: set[str] = set()
    if recipe.model.init is not None and known is None:
        copied = set(copy_weights(model, recipe.model.init).copied)
    supernet = Supernet(model, recipe.space, own_norms=recipe.method.owns_norms)
    _check_runs(supernet, data, is_own_task=":" in recipe.task)
    if known is None:
        known = [f"model.{name}" for name, _ in model.named_parameters() if name in copied]
        if copied and supernet.own_norms is not None:  # they start as copies of the model's
            known += [f"own_norms.{name}" for name, _ in supernet.own_norms.named_parameters()]
    if recipe.model.sync_bn:
        if device.type == "cpu":
            raise ValueError("sync_bn needs accelerators, got a CPU. Set model.sync_bn=false")
        # After tracing: the plan goes by names, which stay.
        supernet.model = nn.SyncBatchNorm.convert_sync_batchnorm(supernet.model)
    return supernet.to(device).train(), tuple(known)


def _check_runs(supernet: Supernet, data: DataSplits, *, is_own_task: bool) -> None:
    """Refuse a network that fails at a resolution, or whose outputs are not logits."""
    supernet.eval()
    for side in supernet.space.resolutions:
        try:
            with torch.no_grad():
                outputs = supernet.model(torch.zeros(1, data.in_channels, side, side))
        except Exception as error:  # a user's network raises anything
            raise ValueError(
                f"the network must run at every resolution, but fails at {side} px "
                f"({type(error).__name__}: {str(error).strip().splitlines()[:1]}). "
                "Leave it out of space.resolutions."
            ) from None
        if not isinstance(outputs, Tensor) and not is_own_task:
            raise ValueError(
                f"the network must return one tensor, got {type(outputs).__name__}. Build it "
                "without auxiliary outputs."
            )


def _teach(
    recipe: Recipe, data: DataSplits, task: Task, device: torch.device
) -> tuple[nn.Module | None, Task]:
    config = recipe.teacher
    if config.name is None:
        return None, task
    if config.name.startswith("timm:"):
        model = pretrained_model(config.name.removeprefix("timm:"), in_chans=data.in_channels)
        side = recipe.space.resolutions[0]
        try:
            with torch.no_grad():
                outputs = model.eval()(torch.zeros(1, data.in_channels, side, side))
        except Exception as error:  # networks refuse a size in many ways
            raise ValueError(
                f"teacher {config.name} does not run at {side} px ({type(error).__name__})"
            ) from None
        if outputs.shape[-1] != data.num_classes:
            raise ValueError(
                f"teacher {config.name} must have the {data.num_classes} classes of {data.name}, "
                f"got {outputs.shape[-1]}. Train one on this data and pass its run."
            )
    else:
        run = load_run(Path(config.name))
        if run.info["class_names"] != list(data.class_names):
            raise ValueError(f"teacher {config.name} must have {data.name}'s classes, got others")
        if not run.supernet.is_full(run.recipe.space.largest):
            raise ValueError(
                f"teacher {config.name} must be a run that trained the full network, got widths up "
                f"to {run.recipe.space.width_range[1]:g}"
            )
        model = run.supernet.model
    taught = Taught(
        task=task, teacher_task=training_task(recipe, data, tau=config.tau), alpha=config.alpha
    )
    return model.to(device).eval().requires_grad_(False), taught
