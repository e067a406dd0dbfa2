"""The networks of a run: those that learn, each with what belongs to it, and the teacher."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from mutualnet.config import ModelConfig, OptimizerConfig, Recipe
from mutualnet.data import DataSplits, first_batch
from mutualnet.distributed import current_ranks, synchronise_norms
from mutualnet.heads import HEAD_PRESETS, AuxiliaryHeads, Head, as_variant, head_preset
from mutualnet.messages import first_line
from mutualnet.models import create_model
from mutualnet.models.registry import names_function
from mutualnet.module_state import kept_running_statistics, mode_of
from mutualnet.pretrained import Initialized, copy_own_norms, copy_weights, pretrained_model
from mutualnet.run_directory import load_trained, make_supernet
from mutualnet.seeding import Purpose, seed_of
from mutualnet.supernet import Supernet, first_tensor
from mutualnet.tasks import Task, make_task
from mutualnet.training.channel_order import choose_criterion, hold_gradients
from mutualnet.training.layer_decay import layer_shares
from mutualnet.training.normalization import (
    Normalization,
    timm_normalization,
    warn_of_normalization,
    with_images_of,
)
from mutualnet.training.weight_init import init_weights
from mutualnet.user_functions import call_function

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where the weights came from that a network began with."""

    initialized_names: tuple[str, ...]
    """Parameters whose values came from elsewhere, by their names in the supernet."""
    sorted_by: str | None
    """By what their channels were put in order; None if they were not."""


@dataclass(frozen=True)
class TrainedNetwork:
    """One network that trains."""

    supernet: Supernet
    heads: AuxiliaryHeads | None
    """Auxiliary heads of the full network, where the method uses some."""
    optimizer: OptimizerConfig
    init_lr_mult: float
    """Share of the learning rate for parameters whose values came from elsewhere."""
    origin: Origin
    layer_shares: Mapping[str, float]
    """Share of the learning rate by layer, by the same names; what is not there has all of it."""

    @property
    def modules(self) -> nn.ModuleList:
        """Supernet and auxiliary heads: all that has weights to train."""
        return nn.ModuleList([self.supernet] if self.heads is None else [self.supernet, self.heads])


def build_network(
    recipe: Recipe,
    index: int,
    data: DataSplits,
    device: torch.device,
    *,
    task: Task,
    head_names: Sequence[str] = (),
    known: Origin | None = None,
) -> TrainedNetwork:
    """Build a network of a recipe, with its weights and auxiliary heads.

    Args:
        recipe: What is trained.
        index: Which of its networks, from 0.
        data: Says how many classes and channels there are.
        device: Where it will train.
        task: Its loss on labels tells which channels matter, where that is asked for.
        head_names: Auxiliary heads that the method uses.
        known: What the network of a run that is resumed began with: nothing is read from
            `model.init` then, nor sorted.

    Raises:
        ValueError: If the network does not fit its data, space or machine.
    """
    config = recipe.models[index]
    # The first network of a run draws what it would draw alone.
    torch.manual_seed(seed_of(recipe.seed, Purpose.WEIGHTS, *([index] if index else [])))
    model = create_model(
        config.name,
        num_classes=data.num_classes,
        in_channels=data.in_channels,
        **config.kwargs,
    )
    if config.weight_init != "default":
        init_weights(model, config.weight_init)
    found: Initialized | None = None
    if config.init is not None and known is None:
        found = copy_weights(model, config.init)
        if current_ranks().is_first:
            warn_of_normalization(config.init, Normalization(data.mean, data.std))
    sorted_by = None if found is None else choose_criterion(config, recipe.space, found)
    if sorted_by == "taylor":
        hold_gradients(model, recipe, data, task, device)
    supernet = make_supernet(model, recipe, task, data.in_channels, sort_channels=sorted_by)
    supernet.zero_grad()
    # In another order of the channels they would be those of others.
    if supernet.own_norms is not None and found is not None and sorted_by is None:
        assert config.init is not None
        copy_own_norms(supernet.own_norms, config.init)
    if current_ranks().is_first:
        logger.info(
            "%s: %d elastic channel groups, %d fixed layers, %d blocks that can be left out",
            config.name,
            len(supernet.plan.groups),
            sum(len(fixed.layers) for fixed in supernet.plan.inelastic),
            sum(len(stage.blocks) - 1 for stage in supernet.plan.depth.stages),
        )
    _check_runs(supernet, data, task, recipe.seed)
    decay = recipe.optimizers[index].layer_decay
    shares = {} if decay is None else layer_shares(supernet, decay)
    if known is None:
        known = Origin(() if found is None else _parameters_from(found, supernet), sorted_by)
    heads = None
    if head_names:
        heads = _make_heads(recipe, index, supernet, data, head_names)
        if config.weight_init != "default":
            init_weights(heads, config.weight_init)
    if config.sync_bn:
        if device.type == "cpu":
            raise ValueError("sync_bn needs accelerators, got a CPU. Set model.sync_bn=false")
        # After tracing: the plan goes by names, which stay.
        supernet.model = synchronise_norms(supernet.model)
        if heads is not None:
            synchronise_norms(heads)
    return TrainedNetwork(
        supernet=supernet.to(device).train(),
        heads=None if heads is None else heads.to(device).train(),
        optimizer=recipe.optimizers[index],
        init_lr_mult=config.init_lr_mult,
        origin=known,
        layer_shares=shares,
    )


def _parameters_from(found: Initialized, supernet: Supernet) -> tuple[str, ...]:
    copied = set(found.copied)
    names = [f"model.{name}" for name, _ in supernet.model.named_parameters() if name in copied]
    if supernet.own_norms is not None:  # they start as copies of the model's
        names += [f"own_norms.{name}" for name, _ in supernet.own_norms.named_parameters()]
    return tuple(names)


def _make_heads(
    recipe: Recipe, index: int, supernet: Supernet, data: DataSplits, names: Sequence[str]
) -> AuxiliaryHeads:
    if not supernet.is_full(recipe.space.largest):
        raise ValueError(
            f"method {recipe.teaching.method} puts heads on the full network, but the largest "
            f"width of the space is {recipe.space.width_range[1]:g}. Raise space.width_range."
        )
    return AuxiliaryHeads(
        supernet.model,
        _describe_heads(recipe.models[index], recipe, names),
        num_classes=data.num_classes,
        images=supernet.example_input(recipe.space.largest),
        checkpointed=recipe.teaching.checkpoint_heads,
    )


def _describe_heads(
    config: ModelConfig, recipe: Recipe, names: Sequence[str]
) -> Mapping[str, Head]:
    spec = config.heads or config.name
    is_own = names_function(spec) and spec not in HEAD_PRESETS
    if not is_own or config.heads is None:
        return head_preset(spec, names, recipe.teaching.head_variant)
    found = call_function(spec, "model.heads")
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(head, Head) for name, head in found.items()
    ):
        raise ValueError(f"{spec} must return mutualnet.heads.Head by name, got {found!r:.80}")
    absent = [name for name in names if name not in found]
    if absent:
        raise ValueError(
            f"{spec} must return the heads {', '.join(names)}, got {', '.join(found)}. Set "
            "teaching.head_names to yours."
        )
    return {name: as_variant(found[name], recipe.teaching.head_variant) for name in names}


def _check_runs(supernet: Supernet, data: DataSplits, task: Task, seed: int) -> None:
    """Refuse a network that fails in train mode or at a resolution, or whose outputs do not fit."""
    with isolate_rng():
        batch = first_batch(data.train, 2, seed=seed)
    _check_trains(supernet.model, task, task.scale(batch, supernet.space.largest))
    supernet.eval()
    for side, frames in product(supernet.space.resolutions, supernet.space.grid_frames()):
        subnet = replace(supernet.space.largest, resolution=side, num_frames=frames)
        where = f"{side} px" if frames is None else f"{side} px and {frames} frames"
        try:
            with torch.no_grad():
                outputs = task.run(supernet.model, task.scale(batch, subnet))
        except Exception as error:  # a user's network raises anything
            raise ValueError(
                f"the network must run at every resolution, but fails at {where} "
                f"({type(error).__name__}: {first_line(error)}). "
                "Leave it out of space.resolutions."
            ) from None
        task.check_outputs(outputs, data.num_classes)


def _check_trains(model: nn.Module, task: Task, batch: Any) -> None:
    """Refuse a network that fails in train mode, or whose outputs there are none to learn from.

    It keeps its state, and torch its random one.
    """
    try:
        with (
            torch.random.fork_rng(devices=()),
            mode_of(model, True),
            kept_running_statistics(model),
            torch.no_grad(),
        ):
            outputs = task.run(model, batch)
    except Exception as error:
        shape = tuple(first_tensor(task.inputs(batch)).shape)
        raise ValueError(
            f"the network must run in train mode, but fails on images {shape} "
            f"({type(error).__name__}: {first_line(error)})"
        ) from None
    try:
        task.check_labels(outputs, batch, reads_values=False)
    except (TypeError, ValueError) as error:
        hint = " Set model.kwargs.aux_logits=false." if hasattr(model, "aux_logits") else ""
        raise ValueError(f"in train mode {first_line(error)}{hint}") from None


def make_teacher(
    recipe: Recipe, data: DataSplits, device: torch.device, *, trust: bool = False
) -> nn.Module | None:
    """The trained network that the recipe names, frozen, in eval mode; None if there is none.

    Images normalised as the data are get to one of timm's as it knows them.

    Args:
        recipe: Names it.
        data: What it must fit.
        device: Where it will run.
        trust: As for `load_run`.

    Raises:
        ValueError: If it cannot be had, or does not fit the data.
    """
    config = recipe.teacher
    if config.name is None:
        return None
    if make_task(recipe.task).learns_in_train_mode_alone:
        raise ValueError(
            f"teacher.name must be null for the task {recipe.task}: a network in eval mode has no "
            "outputs there that others could learn from. --distill on lets the largest sub-network "
            "teach the others."
        )
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
        known = timm_normalization(config.name.removeprefix("timm:"))
        if known is not None:
            model = with_images_of(model, Normalization(data.mean, data.std), known)
    else:
        trained = load_trained(Path(config.name), trust=trust)
        space = trained.recipe.space
        if trained.info["class_names"] != list(data.class_names):
            raise ValueError(f"teacher {config.name} must have {data.name}'s classes, got others")
        is_full = space.width_range[1] == space.full_width_mult  # else only tracing tells
        if not (is_full or Supernet(trained.model, space).is_full(space.largest)):
            raise ValueError(
                f"teacher {config.name} must be a run that trained the full network, got widths up "
                f"to {space.width_range[1]:g}"
            )
        model = trained.model
    return model.to(device).eval().requires_grad_(False)
