"""The matrix products of a network and what narrows them, for counting multiply-adds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mutualnet.supernet.capture import Capture, along, capture
from mutualnet.supernet.channel_ids import ChannelIds, Labels
from mutualnet.supernet.channel_plan import Axis, ChannelPlan, Segment, index_length
from mutualnet.supernet.meta_copy import meta_copy
from mutualnet.supernet.op_calls import Call
from mutualnet.supernet.op_recurrent import RECURRENT, OneOperation, cells


@dataclass(frozen=True, kw_only=True)
class Products:
    """Convolutions and linear layers of one forward pass of one image, however they are called."""

    terms: tuple[tuple[int, tuple[Axis, ...], str | None], ...]
    """(multiply-adds for each combination of channels, the axes that combine, the block that it
    belongs to if that can be left out)."""

    def macs(self, counts: Sequence[int], removed: Collection[str] = ()) -> int:
        """Multiply-adds at some active channels of each group.

        Args:
            counts: Of each group.
            removed: Names of blocks that are left out.
        """
        known: dict[int, int] = {}
        total = 0
        for factor, axes, block in self.terms:
            if block in removed:
                continue
            for axis in axes:
                if id(axis) not in known:
                    known[id(axis)] = index_length(axis.index(counts))
                factor *= known[id(axis)]
            total += factor
        return total


class _KnownIds(ChannelIds):
    """Identities about which all is known: nothing is united or frozen any more."""

    def unite(self, a: np.ndarray, b: np.ndarray) -> None:
        return

    def freeze(self, ids: np.ndarray, reason: str) -> None:
        return


def find_products(
    model: nn.Module, plan: ChannelPlan, example: Any, *, part: str = "", counted: str = ""
) -> Products:
    """Run a copy without values once and note every product of activations and weights.

    Products of two activations, as in attention, are not counted.

    Args:
        model: The full model; not changed.
        plan: Its channel plan.
        example: A batch of one that the part is called with; only shapes count.
        part: Name of the submodule that runs; by default the model.
        counted: Name of the submodule in it whose products count; by default all do.
    """
    with torch.inference_mode(False), OneOperation():
        copy_, inputs = meta_copy(model.get_submodule(part), example)
    before = f"{part}." if part else ""
    ids = _KnownIds()
    first = np.cumsum([0, *(group.size for group in plan.groups)])
    ids.new(int(first[-1]))
    labels: dict[int, Labels] = {}
    for name, tensor in (*copy_.named_parameters(), *copy_.named_buffers()):
        arrays = []
        for dim, axis in plan.tensors.get(f"{before}{name}", {}).items():
            vector = ids.new(axis.size)
            for segment in axis.segments:
                vector[segment.positions] = first[segment.group] + segment.channels
            arrays.append(vector.reshape([-1 if d == dim else 1 for d in range(tensor.dim())]))
        labels[id(tensor)] = tuple(arrays)
    found: dict[tuple[tuple[Axis, ...], str | None], int] = defaultdict(int)
    axes, seen = _Axes(first), Capture(ids, labels)
    blocks = {block for stage in plan.depth.stages for block in stage.blocks}
    inner = counted.removeprefix(part).removeprefix(".")

    def observe(call: Call) -> None:
        if inner not in seen.stack:
            return
        names = (f"{before}{name}" for name in seen.stack)
        block = next((name for name in names if name in blocks), None)
        for factor, sized in _factors(call):
            narrowed = []
            for size, vector in sized:
                axis = None if vector is None else axes.of(vector)
                if axis is None:
                    factor *= size
                else:
                    narrowed.append(axis)
            found[tuple(narrowed), block] += factor

    with torch.inference_mode(False), OneOperation(), torch.no_grad():
        capture(copy_, inputs, seen, training=False, is_inner=lambda *_: False, observe=observe)
    return Products(
        terms=tuple((factor, narrowed, block) for (narrowed, block), factor in found.items())
    )


class _Axes:
    """Axes of identities, one for all that are equal."""

    def __init__(self, first: np.ndarray) -> None:
        self._first = first
        self._known: dict[bytes, Axis | None] = {}

    def of(self, vector: np.ndarray) -> Axis | None:
        content = vector.tobytes()
        if content not in self._known:
            groups = np.searchsorted(self._first, vector, side="right") - 1
            elastic = vector < self._first[-1]
            segments = tuple(
                Segment(
                    group=int(group),
                    positions=(places := np.flatnonzero(elastic & (groups == group))),
                    channels=vector[places] - self._first[group],
                )
                for group in np.unique(groups[elastic])
            )
            self._known[content] = Axis(size=len(vector), segments=segments) if segments else None
        return self._known[content]


_Sized = tuple[int, np.ndarray | None]
"""The size of a dimension and the identities along it."""


def _factors(call: Call) -> list[tuple[int, list[_Sized]]]:
    """What multiply-adds of an operation are the product of, for each product in it."""

    def dim(tensor: Tensor, number: int) -> _Sized:
        return tensor.shape[number], along(tensor.shape, call.labels(tensor), number)

    def all_but(tensor: Tensor, number: int) -> list[_Sized]:
        """Samples and positions, which may be channels too, as where a kernel slides over them."""
        return [dim(tensor, d) for d in range(tensor.dim()) if d != number % tensor.dim()]

    name = call.name
    if name == "aten::convolution":
        x, weight, out = call["input"], call["weight"], call.out
        moved = all_but(x if call["transposed"] else out, 1)
        return [(weight[0, 0].numel(), [*moved, dim(weight, 0), dim(weight, 1)])]
    if name in ("aten::mm", "aten::addmm"):
        a, b = call.tensors()[-2:]
        return [(1, [dim(a, 0), dim(a, 1), dim(b, 1)])]
    if name == "aten::linear":
        x, weight = call["input"], call["weight"]
        return [(1, [*all_but(x, -1), dim(weight, 0), dim(weight, 1)])]
    if name in ("aten::mv", "aten::addmv"):
        a = call.tensors()[-2]
        return [(1, [dim(a, 0), dim(a, 1)])]
    if name == "torchvision::deform_conv2d":
        weight, out = call["weight"], call.out
        places = out.numel() // out.shape[1] * weight[0, 0].numel()
        return [(places, [dim(weight, 0), dim(weight, 1)])]
    if name == RECURRENT:
        steps = all_but(call["x"], -1)
        matrices = (weight for cell in cells(call) for weight in cell[:2])
        return [(1, [*steps, dim(weight, 0), dim(weight, 1)]) for weight in matrices]
    return []
