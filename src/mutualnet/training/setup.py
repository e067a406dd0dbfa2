"""From a recipe to everything that its training run needs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn
from torch.utils.data import DataLoader

from mutualnet.config import DataConfig, Recipe
from mutualnet.data import (
    DataSplits,
    NoisyLabels,
    TrainBatches,
    first_batch,
    hash_data,
    load_data,
    train_loader,
)
from mutualnet.distributed import broadcast_model, current_ranks, from_first, training_device
from mutualnet.peers import check_apart
from mutualnet.precision import ComputeFormat
from mutualnet.seeding import Purpose, generator
from mutualnet.tasks import TASKS, Task, make_task
from mutualnet.teaching import TeachingGraph
from mutualnet.training.autotune import choose_format
from mutualnet.training.networks import Origin, TrainedNetwork, build_network, make_teacher
from mutualnet.training.optimizer import check_optimizer


@dataclass
class TrainingSetup:
    """All that a training run needs."""

    recipe: Recipe
    data: DataSplits
    task: Task
    """What is learned and scored, with all that concerns its losses."""
    networks: tuple[TrainedNetwork, ...]
    teacher: nn.Module | None
    batches: TrainBatches
    compute_format: ComputeFormat

    @cached_property
    def graph(self) -> TeachingGraph:
        """Who learns from whom; a teacher is the last network."""
        return self.recipe.graph

    @cached_property
    def teacher_hash(self) -> str | None:
        """SHA-256 of the fixed teacher's names and values, to tell another one apart."""
        if self.teacher is None:
            return None
        digest = hashlib.sha256()
        for name, value in self.teacher.state_dict().items():
            digest.update(name.encode())
            values = value.detach().cpu().contiguous().reshape(-1)
            digest.update(values.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def loader(self, start: int = 0) -> DataLoader[Any]:
        """The images of every step from one on."""
        self.batches.start = start
        return train_loader(self.data.train, self.batches, num_workers=self.recipe.data.num_workers)


def load_splits(recipe: Recipe) -> DataSplits:
    """The recipe's data.

    Raises:
        ValueError: If there are none such.
    """
    damaged = recipe.data.max_damaged_share
    try:
        data = load_data(
            recipe.data.name,
            recipe.data.path,
            resolution=recipe.load_resolution,
            select_share=recipe.data.select_share,
            select_from=recipe.data.select_from,
            train_share=recipe.data.train_share,
            seed=recipe.seed,
            augment=recipe.data.augment,
            policy=recipe.data.policy,
            cutout=recipe.data.cutout,
            **recipe.clip_options,
            **({} if damaged == DataConfig.max_damaged_share else {"max_damaged_share": damaged}),
        )
    except ValueError as error:
        if not str(error).startswith("path must"):
            raise
        raise ValueError(f"{str(error).rstrip('.')}. The path is given by --data.") from None
    if not recipe.data.label_noise:
        return data
    noisy = NoisyLabels(
        data.train, recipe.data.label_noise, num_classes=data.num_classes, seed=recipe.seed
    )
    parts = {"train": (noisy.corrupted.astype(str), noisy.labels[noisy.corrupted].tolist())}
    return replace(data, train=noisy, data_id=hash_data(data.data_id, parts))


def plain_task(recipe: Recipe) -> Task:
    """The task of a recipe, to run and score a trained network.

    Raises:
        ValueError: If the task is unknown.
    """
    return make_task(recipe.task)


def training_task(recipe: Recipe, data: DataSplits) -> Task:
    """The task of a recipe with all that concerns its losses.

    Args:
        recipe: Names the task, label smoothing and the balance of the classes.
        data: Counts the classes.

    Raises:
        ValueError: If the task is unknown or does not fit the data.
    """
    task, is_balanced = plain_task(recipe), recipe.data.balance == "loss"
    if task.data_kind not in (None, data.task):
        fitting = ", ".join(name for name, kind in TASKS.items() if kind.data_kind == data.task)
        raise ValueError(f"task must be {fitting} for data {data.name}, got {recipe.task}")
    return task.for_training(
        data.train.labels,
        data.num_classes,
        label_smoothing=recipe.label_smoothing,
        is_balanced=is_balanced,
    )


def set_up_training(
    recipe: Recipe,
    *,
    compute_format: ComputeFormat | None = None,
    limit_steps: int | None = None,
    origins: Sequence[Origin] | None = None,
    trust: bool = False,
) -> TrainingSetup:
    """Load the data, build the network, and choose its format.

    Args:
        recipe: What to train.
        compute_format: Number format and memory layout; by default what the recipe says or a probe
            finds.
        limit_steps: Most steps, at which cosine and linear schedules end then.
        origins: What each network of an interrupted run began with; it resumes from its own
            checkpoint, and nothing is read from `init` again.
        trust: As for `load_run`, of the teacher's run.

    Raises:
        ValueError: If the recipe does not fit its data, model or machine.
    """
    ranks, device = current_ranks(), training_device()
    graph = recipe.graph  # refuses a method without its teacher before anything is loaded
    for config in recipe.optimizers:
        check_optimizer(config, device)
    data = load_splits(recipe)
    batches = _batches(recipe, data)
    total = recipe.optimizer.epochs * batches.steps_per_epoch
    batches.stop = total if limit_steps is None else min(total, limit_steps)
    teacher = make_teacher(recipe, data, device, trust=trust)
    task = training_task(recipe, data)
    known: Sequence[Origin | None] = origins or [None] * len(recipe.models)
    networks = tuple(
        _network(recipe, index, data, task, graph.heads_of(index), known[index])
        for index in range(len(recipe.models))
    )
    check_apart([network.supernet for network in networks])
    for network in networks:
        broadcast_model(network.modules)
    if compute_format is None:
        size = max(2, min(recipe.data.batch_size, len(data.train)) // ranks.size)
        size = max(2, size // recipe.optimizer.accumulate)
        with isolate_rng():
            batch = task.batch_to(first_batch(data.train, size, seed=recipe.seed), device)
        draw = recipe.method.value.draw(recipe.space, generator(0, Purpose.DRAW, 0))
        compute_format = from_first(
            choose_format(networks[0].supernet, batch, draw, task, recipe.compute)
        )
    for network in networks:
        compute_format.arrange(network.modules)
    return TrainingSetup(
        recipe=recipe,
        data=data,
        task=task,
        networks=networks,
        teacher=teacher,
        batches=batches,
        compute_format=compute_format,
    )


def _network(
    recipe: Recipe,
    index: int,
    data: DataSplits,
    task: Task,
    head_names: Sequence[str],
    known: Origin | None,
) -> TrainedNetwork:
    try:
        return build_network(
            recipe, index, data, training_device(), task=task, head_names=head_names, known=known
        )
    except ValueError as error:
        if len(recipe.models) == 1:
            raise
        name = recipe.models[index].name
        raise ValueError(f"network {index + 1} ({name}): {error}") from None


def _batches(recipe: Recipe, data: DataSplits) -> TrainBatches:
    ranks, config = current_ranks(), recipe.data
    _check_mixing(config, data)
    return TrainBatches(
        data.train.labels,
        config.batch_size,
        seed=recipe.seed,
        rank=ranks.rank,
        num_ranks=ranks.size,
        accumulate=recipe.optimizer.accumulate,
        balanced=config.balance == "sampling",
    )


def _check_mixing(config: DataConfig, data: DataSplits) -> None:
    if (config.mixup_alpha or config.cutmix_alpha) and data.task != "classification":
        raise ValueError(
            "data.mixup_alpha and data.cutmix_alpha mix class labels, got a data set of another "
            "task. Set both to 0."
        )
    if config.balance == "sampling" and data.task != "classification":
        raise ValueError(
            "data.balance=sampling needs images of one class each, got a data set of another task. "
            "Set data.balance=none, or loss for images with several labels."
        )
