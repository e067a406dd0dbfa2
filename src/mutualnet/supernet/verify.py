"""Does the plan hold? Narrow networks are followed too, and must do what the full one does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mutualnet.messages import first_line
from mutualnet.supernet.capture import Capture, Operation, Site, capture, site_of
from mutualnet.supernet.channel_ids import ChannelIds, Labels, axes_of, same_channels
from mutualnet.supernet.channel_plan import ChannelPlan
from mutualnet.supernet.examples import has_values
from mutualnet.supernet.narrow import narrow_module, take


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Where a narrow network does not do what the full one does."""

    name: str
    """The operation."""
    module: str
    """The innermost module that ran it."""
    site: Site
    reason: str


class _Differs(Exception):
    """An operation of the narrow network has other channels than the full one's."""


def first_failure(
    model: nn.Module,
    inputs: Any,
    plan: ChannelPlan,
    counts: Sequence[int],
    full: Capture,
    *,
    training: bool,
    is_inner: Callable[[str, int, int], bool],
    shapes_only: bool = False,
) -> Failure | None:
    """Follow the channels of a narrow network; None if all operations do as in the full one.

    Args:
        model: The copy of the full model that was followed.
        inputs: What it was followed with.
        plan: What to check.
        counts: Active channels of each group in the narrow network.
        full: What was found.
        training: Train or eval mode, that of `full`.
        is_inner: As for `capture`.
        shapes_only: Compare no identities: a single channel is no axis that can be followed.
    """
    ids = full.ids
    kept = _kept(ids, plan, counts, model, full)
    narrow = narrow_module(
        model,
        plan,
        counts,
        lambda _, tensor, dims: nn.Parameter(take(tensor.detach(), dims), tensor.requires_grad),
        lambda _, tensor, dims: take(tensor, dims),
    )
    labels: dict[int, Labels] = {}
    indices = plan.indices(counts)
    narrow_tensors = dict((*narrow.named_parameters(), *narrow.named_buffers()))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        arrays = []
        for array in full.tensors.get(id(tensor), ()):
            dim = axes_of(array)[0]
            index = indices.get(name, {}).get(dim, slice(None))
            arrays.append(array[(slice(None),) * dim + (index,)])
        labels[id(narrow_tensors[name])] = tuple(a for a in arrays if a.size > 1)
    result = Capture(ids, {} if shapes_only else labels)

    # With values, sizes that hold no channels may depend on them, such as how many boxes are found.
    values_count = has_values(inputs)
    matcher = _Matcher(full.operations)

    def check(operation: Operation) -> None:
        expected = matcher.match(operation)
        if expected is None:
            return
        if len(expected.outputs) != len(operation.outputs):
            if values_count:
                return
            raise _Differs("it makes another number of tensors")
        for shape, mine, full_shape, theirs in zip(
            operation.shapes, operation.outputs, expected.shapes, expected.outputs, strict=True
        ):
            if not theirs:
                continue
            wanted = _restricted(ids, kept, full_shape, theirs)
            if wanted is None:
                raise _Differs("it leaves a part of a row of channels")
            wanted_shape, labels = wanted
            if values_count:
                wanted_shape = tuple(
                    wanted if any(dim in axes_of(array) for array in theirs) else found
                    for dim, (wanted, found) in enumerate(zip(wanted_shape, shape, strict=True))
                )
            if wanted_shape != shape:
                raise _Differs(f"its shape is {list(shape)}, and {list(wanted_shape)} must be")
            mine = tuple(_with_new(ids, array, labels) for array in mine)
            if not same_channels(ids, mine, labels):
                raise _Differs("its channels are others")

    ids.known = len(ids)
    try:
        with torch.no_grad():
            capture(
                narrow, inputs, result, training=training, is_inner=is_inner,
                check=None if shapes_only else check,
            )  # fmt: skip
    except Exception as problem:
        return Failure(
            name=result.name,
            module=result.stack[-1] if result.stack else "",
            site=site_of(problem) or result.site,
            reason=first_line(problem)[:160],
        )
    finally:
        ids.known = None
    if not values_count and result.output_shapes != full.output_shapes:
        last = full.operations[-1]
        return Failure(
            name=last.name, module="", site=last.site, reason="the output's shape changes"
        )
    return None


class _Matcher:
    """Finds the full network's operation for each of the narrow one's, in their order.

    PyTorch chooses some operations by sizes and layouts, so a few have no partner.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = operations
        self._next = 0

    def match(self, operation: Operation) -> Operation | None:
        for number in range(self._next, min(self._next + 40, len(self._operations))):
            other = self._operations[number]
            if (other.name, other.module, other.site) == (
                operation.name, operation.module, operation.site
            ):  # fmt: skip
                self._next = number + 1
                return other
        return None


def _kept(
    ids: ChannelIds, plan: ChannelPlan, counts: Sequence[int], model: nn.Module, full: Capture
) -> np.ndarray:
    """(len(ids),) whether each unit stays."""
    stays = np.ones(len(ids) + 1, dtype=bool)
    indices = plan.indices(counts)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        for array in full.tensors.get(id(tensor), ()):
            index = indices.get(name, {}).get(axes_of(array)[0])
            if index is not None:
                units = ids.units(array.reshape(-1))
                mask = np.zeros(len(units), dtype=bool)
                mask[index] = True
                stays[units[~mask]] = False
    stays[-1] = True
    return stays


def _restricted(
    ids: ChannelIds, kept: np.ndarray, shape: Sequence[int], labels: Labels
) -> tuple[tuple[int, ...], list[np.ndarray]] | None:
    """Shape and labels without what is dropped; None if what is left is no box."""
    masks = [kept[ids.units(array)] for array in labels]
    stays = [np.ones(size, dtype=bool) for size in shape]
    for mask in masks:
        for axis in axes_of(mask):
            stays[axis] &= mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis))
    found = []
    for array, mask in zip(labels, masks, strict=True):
        box = np.ix_(
            *(np.flatnonzero(stays[a]) if array.shape[a] > 1 else [0] for a in range(array.ndim))
        )
        if not mask[box].all():
            return None
        found.append(array[box])
    return tuple(int(keep.sum()) for keep in stays), found


def _with_new(ids: ChannelIds, array: np.ndarray, wanted: Sequence[np.ndarray]) -> np.ndarray:
    """Labels in which what the narrow network made by itself is what the full one made."""
    roots = ids.find(array)
    is_new = roots >= (ids.known or 0)
    if is_new.any():
        for other in wanted:
            if other.shape == array.shape:
                return np.where(is_new, other, array)
    return array
