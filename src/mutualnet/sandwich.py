"""One training step of one network in many configurations, for anybody's loop."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mutualnet.space import RULES, SandwichRule, Subnet
from mutualnet.supernet import Supernet
from mutualnet.tasks.base import Task
from mutualnet.views import ignore_layout_warning

__all__ = ["Member", "sandwich_step"]


@dataclass(frozen=True, slots=True)
class Member:
    """What one sub-network of a step learned from."""

    subnet: Subnet
    target: Literal["labels", "largest"]
    """Its loss is the task's on labels, or a divergence from the largest sub-network's output."""
    loss: Tensor
    """Scalar, detached."""


def sandwich_step(
    supernet: Supernet,
    batch: Any,
    *,
    task: Task,
    rng: np.random.Generator,
    rule: SandwichRule = RULES["mutualnet"],
    distill: bool = True,
    autocast: torch.dtype | None = None,
) -> tuple[Member, ...]:
    """Add up the gradients of the largest sub-network on labels and of narrower ones on its output.

    The caller zeroes the gradients before and steps the optimizer after; between several calls
    gradients accumulate. Every loss has weight 1.

    Args:
        supernet: The network, on the batch's device. Its modules keep their train or eval mode.
        batch: At the top resolution; lower ones are made from it on its device, once each.
        task: Scales a batch, computes the loss on labels and the distillation loss.
        rng: Source of the widths and resolutions; the same state gives the same draw.
        rule: Which sub-networks run. `mutualnet.space.RULES` has those of the literature.
        distill: Whether the narrower ones learn from the largest one's detached output (in-place
            distillation). If not, they learn from labels too.
        autocast: Precision of the forward passes, for example torch.bfloat16; None for the weights'.

    Returns:
        One member per sub-network, the largest first. Losses stay on the device.

    Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978, section 3.1, algorithm 1.
    """
    draw = rule.draw(supernet.space, rng)
    scaled: dict[int, Any] = {}
    members: list[Member] = []
    teacher: Any = None
    for number, subnet in enumerate(draw):
        if subnet.resolution not in scaled:
            scaled[subnet.resolution] = task.scale(batch, subnet)
        part = scaled[subnet.resolution]
        inputs = task.inputs(part)
        is_full = supernet.is_full(subnet)
        module = supernet.model if is_full else supernet.pooled_subnet(subnet)
        with _precision(inputs, autocast):
            outputs = module(inputs)
            learns_from_labels = number == 0 or not distill
            if learns_from_labels:
                loss = task.supervised_loss(outputs, part)
            else:
                loss = task.distill_loss(outputs, teacher)
        if number == 0:
            teacher = task.detach(outputs)
        with ignore_layout_warning():
            loss.backward()
        if not is_full:
            module._subnet_tie.release_gradients()  # type: ignore[union-attr,operator]
        target: Literal["labels", "largest"] = "labels" if learns_from_labels else "largest"
        members.append(Member(subnet, target, loss.detach()))
    return tuple(members)


def _precision(inputs: Tensor, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    if dtype is None:
        return nullcontext()
    return torch.autocast(inputs.device.type, dtype=dtype)
