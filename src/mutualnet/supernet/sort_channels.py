"""Reorder the channels of a trained network, so that narrower sub-networks keep its best ones.

A sub-network keeps the leading channels of each group, and in a network that was trained alone
these are as good as any others. Any order of the channels computes the same at full width, so the
most important ones may come first.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mutualnet.module_state import mode_of
from mutualnet.supernet.channel_plan import Axis, ChannelPlan

CRITERIA = ("l1", "l2", "taylor")


def sort_channels(model: nn.Module, plan: ChannelPlan, criterion: str) -> None:
    """Put the most important channels of every group first, in the model's own tensors.

    Its outputs at full width stay the same but for rounding. Whole blocks of grouped convolutions
    and whole heads move as one; groups whose order counts (`ChannelGroup.is_ordered`) stay as
    they are.

    Args:
        model: Changed in place: parameters, their gradients, and buffers.
        plan: Its channel plan.
        criterion: "l1" or "l2": the mean norm of the weights that make a channel. "taylor": the
            mean of |weight * gradient| of those, from the gradients that the parameters hold.

    Raises:
        ValueError: If the criterion is none of these, or "taylor" finds no gradients.

    Source: Li et al. 2017, https://arxiv.org/abs/1608.08710 (l1); Molchanov et al. 2019,
        https://arxiv.org/abs/1906.10771 (taylor).
    """
    if criterion not in CRITERIA:
        raise ValueError(f"sort_channels must be one of {', '.join(CRITERIA)}, got {criterion!r}")
    orders = [
        _order(importance) if not group.is_ordered else None
        for group, importance in zip(plan.groups, _importances(model, plan, criterion), strict=True)
    ]
    known: dict[int, np.ndarray | None] = {}
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            for dim, axis in plan.tensors.get(name, {}).items():
                if id(axis) not in known:
                    known[id(axis)] = _moved(axis, plan, orders)
                index = known[id(axis)]
                if index is None:
                    continue
                chosen = torch.from_numpy(index).to(tensor.device)
                tensor.copy_(tensor.index_select(dim, chosen))
                if tensor.grad is not None:
                    tensor.grad.copy_(tensor.grad.index_select(dim, chosen))
    # Layers that keep what they compute from their weights in eval mode forget it on the way.
    with mode_of(model, True):
        pass


def _importances(model: nn.Module, plan: ChannelPlan, criterion: str) -> list[np.ndarray]:
    """(blocks,) the mean importance of each block of channels, for every group."""
    sums = [np.zeros(group.size // group.step) for group in plan.groups]
    seen = [np.zeros(group.size // group.step) for group in plan.groups]
    has_gradients = False
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        values = parameter.detach().double()
        if criterion == "taylor":
            if parameter.grad is None:
                continue
            has_gradients = True
            values = (values * parameter.grad.double()).abs()
        else:
            values = values.abs() if criterion == "l1" else values.square()
        for dim, axis in plan.tensors.get(name, {}).items():
            others = [d for d in range(values.dim()) if d != dim]
            per_position = values.mean(others).cpu().numpy()
            for segment in axis.segments:
                group = plan.groups[segment.group]
                if name.rpartition(".")[0] not in group.layers:
                    continue  # a layer that reads these channels, and does not make them
                blocks = segment.channels // group.step
                np.add.at(sums[segment.group], blocks, per_position[segment.positions])
                np.add.at(seen[segment.group], blocks, 1)
    if criterion == "taylor" and not has_gradients:
        raise ValueError(
            "sort_channels='taylor' needs gradients, got none: call backward() on the loss of some "
            "batches first."
        )
    return [total / np.maximum(count, 1) for total, count in zip(sums, seen, strict=True)]


def _order(importance: np.ndarray) -> np.ndarray:
    """Blocks from the most important one on; equal ones keep their order."""
    return np.argsort(-importance, kind="stable")


def _moved(axis: Axis, plan: ChannelPlan, orders: list[np.ndarray | None]) -> np.ndarray | None:
    """(size,) where each position's new content comes from; None if all stay."""
    index = np.arange(axis.size)
    for segment in axis.segments:
        order = orders[segment.group]
        if order is None:
            continue
        blocks = segment.channels // plan.groups[segment.group].step
        # The n-th position of a block takes what the n-th position of another one holds.
        by_block = [segment.positions[blocks == block] for block in range(len(order))]
        for place, origin in enumerate(order):
            index[by_block[place]] = by_block[origin]
    return None if np.array_equal(index, np.arange(axis.size)) else index
