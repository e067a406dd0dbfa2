"""By what the channels of weights from elsewhere are put in order before they train."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mutualnet.config import ModelConfig, Recipe
from mutualnet.data import DataSplits, calibration_loader
from mutualnet.distributed import current_ranks
from mutualnet.module_state import mode_of
from mutualnet.pretrained import Initialized
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.tasks import Task

logger = logging.getLogger(__name__)

DEFAULT = "l1"
"""What `auto` sorts by."""
NUM_IMAGES = 1024
"""Train images behind the gradients of `taylor`, in whole batches."""


def choose_criterion(config: ModelConfig, space: ElasticSpace, found: Initialized) -> str | None:
    """By what to put the channels of a network in order; None for leaving them as they are.

    In a network that trained alone the leading channels are as good as any others. Where narrower
    ones were trained they are the best already, and another order would undo that.

    Args:
        config: Names the source of the weights, and the criterion if one was chosen.
        space: What is to be trained.
        found: What is known of the source.

    Raises:
        ValueError: If a criterion was chosen for a source that has trained all widths of the space.
    """
    say = logger.info if current_ranks().is_first else logger.debug
    chosen, source, least = config.sort_channels, config.init, found.trained_from
    share = space.width_range[0] / space.full_width_mult
    if chosen == "none":
        return None
    if chosen == "auto" and share == 1:
        return None  # the full network alone, which computes the same in any order
    if least is not None and least < 1 and (chosen == "auto" or least <= share):
        before = f"trained from width {least:g} on" if least else "published as a slimmable network"
        if chosen != "auto":
            raise ValueError(
                f"sort_channels={chosen} would undo the order of {source}, which was {before}: its "
                "leading channels are the most important ones already. Leave it out."
            )
        say(
            "channels of %s (%s) stay as they are: the most important ones come first",
            source,
            before,
        )
        return None
    criterion = DEFAULT if chosen == "auto" else chosen
    if least is None:
        reason = "nothing tells how it was trained"
    else:
        reason = "trained at full width alone" if least == 1 else f"trained from width {least:g} on"
    say("channels of %s (%s) are put in order by %s", source, reason, criterion)
    return criterion


def hold_gradients(
    model: nn.Module, recipe: Recipe, data: DataSplits, task: Task, device: torch.device
) -> None:
    """Let every parameter hold the mean of |gradient| over some batches of train images.

    They are the first images of BN calibration, augmented, at the top resolution, in batches of
    the recipe's size. Absolute values, because gradients of a trained network cancel out over
    batches. The network is in eval mode, or BN alone is, where it has losses in train mode alone.

    Args:
        model: On the CPU; it goes to the device and comes back, in its own mode.
        recipe: Says seed, size of batches and resolution.
        data: Whose train images are taken.
        task: Whose loss on labels is differentiated.
        device: Where to compute.
    """
    loader = calibration_loader(
        data.calibration,
        recipe.data.batch_size,
        num_samples=NUM_IMAGES,
        seed=recipe.seed,
        num_workers=recipe.data.num_workers,
    )
    largest = Subnet(resolution=recipe.space.resolutions[0])
    sums: dict[str, Tensor] = {}
    model.to(device)
    with mode_of(model, task.learns_in_train_mode_alone):
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        for batch in loader:
            scaled = task.scale(task.batch_to(batch, device), largest)
            model.zero_grad()
            task.supervised_loss(task.run(model, scaled), scaled).backward()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    sums[name] = sums.get(name, 0.0) + parameter.grad.abs()
    for name, total in sums.items():
        model.get_parameter(name).grad = total / len(loader)
    model.to("cpu")
