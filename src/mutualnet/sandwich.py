"""One training step of one network in many configurations, for anybody's loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mutualnet.space import Subnet
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
    subnets: Sequence[Subnet],
    *,
    task: Task,
    distill: bool = True,
    autocast: torch.dtype | None = None,
    weight: float = 1.0,
) -> tuple[Member, ...]:
    """Add up the gradients of the first sub-network on labels and of the others on its output.

    The caller zeroes the gradients before and steps the optimizer after; between several calls
    gradients accumulate.

    Args:
        supernet: The network, on the batch's device. Its modules keep their train or eval mode.
        batch: At the top resolution; lower ones are made from it on its device, once each.
        subnets: The largest first, usually `RULES["mutualnet"].draw(supernet.space, rng)`. What is
            drawn makes the method: `mutualnet.space.RULES` has those of the literature.
        task: Scales a batch, computes the loss on labels and the distillation loss.
        distill: Whether the narrower ones learn from the largest one's detached output (in-place
            distillation). If not, they learn from labels too.
        autocast: Precision of the forward passes, such as torch.bfloat16; None for the weights'.
        weight: Factor of all gradients, for a batch that is a part of a step's: its share of the
            images. The losses that are returned are without it.

    Returns:
        One member per sub-network, in their order. Losses stay on the device.

    Raises:
        ValueError: If there is no sub-network, or one lies outside the supernet's space.

    Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978, section 3.1, algorithm 1.
    """
    if not subnets:
        raise ValueError("subnets must hold at least one sub-network, got none")
    scaled: dict[int, Any] = {}
    members: list[Member] = []
    teacher: Any = None
    for subnet in subnets:
        if subnet.resolution not in scaled:
            scaled[subnet.resolution] = task.scale(batch, subnet)
        part = scaled[subnet.resolution]
        inputs = task.inputs(part)
        # The full network is the model itself, whose own BN statistics follow the training.
        is_full = supernet.is_full(subnet)
        module = supernet.model if is_full else supernet.pooled_subnet(subnet)
        target: Literal["labels", "largest"] = "largest" if members and distill else "labels"
        with _precision(inputs, autocast):
            outputs = module(inputs)
            if target == "labels":
                loss = task.supervised_loss(outputs, part)
            else:
                loss = task.distill_loss(outputs, teacher)
        if not members:
            teacher = task.detach(outputs)
        with ignore_layout_warning():
            (loss if weight == 1.0 else loss * weight).backward()
        if not is_full:
            supernet.release_gradients(module)
        members.append(Member(subnet, target, loss.detach()))
    return tuple(members)


def _precision(inputs: Tensor, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    if dtype is None:
        return nullcontext()
    return torch.autocast(inputs.device.type, dtype=dtype)
