"""One training step of one network in many configurations, for anybody's loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mutualnet.batch_checks import BatchCheck
from mutualnet.precision import autocast_to
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet, ignore_layout_warning
from mutualnet.tasks.base import Task
from mutualnet.tasks.scaling import ScaledBatch


@dataclass(frozen=True, slots=True)
class SubnetLoss:
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
    teacher: Any = None,
) -> tuple[SubnetLoss, ...]:
    """Add up the gradients of the first sub-network on labels and of the others on its output.

    The caller zeroes the gradients before and steps the optimizer after; between several calls
    gradients accumulate.

    Args:
        supernet: The network, on the batch's device. Its modules keep their train or eval mode.
        batch: At the top resolution; lower ones are made from it on its device, once each.
        subnets: The largest first, usually `METHODS["mutualnet"].draw(supernet.space, rng)`. What
            is drawn makes the method: `mutualnet.METHODS` has those of the literature.
        task: Scales a batch, computes the loss on labels and the distillation loss.
        distill: Whether the narrower ones learn from the largest one's detached output (in-place
            distillation). If not, they learn from labels too.
        autocast: Precision of the forward passes, such as torch.bfloat16; None for the weights'.
        weight: Factor of all gradients, for a batch that is a part of a step's: its share of the
            images. The losses that are returned are without it.
        teacher: Outputs of the largest sub-network for the batch, where it ran and learned
            elsewhere: then `subnets` are only the narrower ones, and all learn from it. It receives
            no gradient.

    Returns:
        One loss per sub-network, in their order. Losses stay on the device.

    Raises:
        TypeError: If images or labels are of the wrong type.
        ValueError: If there is no sub-network, or one lies outside the supernet's space; if there
            is no image, one is not finite or a label out of range. On an accelerator values are
            read for the first 8 batches alone, since reading them waits for the device.

    Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978, section 3.1, algorithm 1.
    """
    if not subnets:
        raise ValueError("subnets must hold at least one sub-network, got none")
    check, is_checked = BatchCheck(supernet, task, batch), False
    device = next(supernet.model.parameters()).device
    scaled = ScaledBatch(task, batch)
    if teacher is not None:
        teacher = task.detach(teacher)  # a target, whether or not the caller cut its graph
    losses: list[SubnetLoss] = []
    for subnet in subnets:
        part = scaled.at(subnet)
        is_taught = distill and teacher is not None
        with active_network(supernet, subnet) as network:
            with autocast_to(autocast, device):
                outputs = task.run(network, part)
                if not (is_taught or is_checked):
                    check.labels(outputs)
                    is_checked = True
                if is_taught:
                    loss = task.distill_loss(outputs, teacher)
                else:
                    loss = task.supervised_loss(outputs, part)
            if teacher is None:
                teacher = task.detach(outputs)
            with ignore_layout_warning():
                (loss if weight == 1.0 else loss * weight).backward()
        losses.append(SubnetLoss(subnet, "largest" if is_taught else "labels", loss.detach()))
    return tuple(losses)


@contextmanager
def active_network(supernet: Supernet, subnet: Subnet) -> Iterator[nn.Module]:
    """The module that trains a sub-network inside the block, whose gradients stay in the model's.

    The full network is the model itself, whose own BN statistics follow the training.

    Args:
        supernet: Its modules keep their train or eval mode.
        subnet: Which one.

    Raises:
        ValueError: If it lies outside the supernet's space.
    """
    if supernet.is_full(subnet):
        yield supernet.model
        return
    module = supernet.pooled_subnet(subnet)
    try:
        yield module
    finally:
        supernet.release_gradients(module)
