"""What happens to channels that meet in sums and products, and to those that are reduced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mutualnet.supernet.channel_ids import axes_of
from mutualnet.supernet.op_calls import Call


class _Met:
    """Labels that meet in one index space, as in sums and products."""

    def __init__(self, call: Call, rank: int) -> None:
        self.call = call
        self.rank = rank
        self.operands: list[tuple[tuple[int, ...], list[np.ndarray]]] = []

    def add(self, shape: Sequence[int], labels: Sequence[np.ndarray]) -> None:
        """Add an operand; missing leading dimensions are 1."""
        lead = self.rank - len(shape)
        shape = (1,) * lead + tuple(shape)
        arrays = [a.reshape((1,) * (self.rank - a.ndim) + a.shape) for a in labels]
        self.operands.append((shape, arrays))

    def unite(self) -> list[np.ndarray]:
        """The labels of what they make."""
        merged: list[np.ndarray] = []
        shape: tuple[int, ...] | None = None
        for new_shape, arrays in self.operands:
            if shape is None:
                shape, merged = new_shape, list(arrays)
                continue
            before = list(merged)
            met: set[int] = set()
            for ids in arrays:
                self._meet(ids, new_shape, merged, shape, before, met)
            for position, ids in enumerate(before):
                if position not in met and any(new_shape[d] > 1 for d in axes_of(ids)):
                    self.call.freeze(ids, "they meet a tensor without channels")
            shape = tuple(max(a, b) for a, b in zip(shape, new_shape, strict=True))
        return merged

    def _meet(
        self,
        ids: np.ndarray,
        new_shape: tuple[int, ...],
        merged: list[np.ndarray],
        shape: tuple[int, ...],
        before: list[np.ndarray],
        met: set[int],
    ) -> None:
        mine = set(axes_of(ids))
        shared = crossed = 0
        for position, other in enumerate(before):
            theirs = set(axes_of(other))
            if not mine & theirs:
                continue
            shared += 1
            met.add(position)
            if mine == theirs:
                self.call.ids.unite(ids, other)
            elif mine < theirs:
                self._within(ids, new_shape, other)
            elif theirs < mine:
                self._within(other, shape, ids)
                merged[position] = ids
            else:  # as in attention between channels: whole heads stay or go
                both = mine & theirs
                rows = self.call.ids.tie(ids, sorted(mine - both))
                self.call.ids.unite(rows, self.call.ids.tie(other, sorted(theirs - both)))
                crossed += 1
        if not shared and any(shape[d] > 1 for d in mine):
            self.call.freeze(ids, "they meet a tensor without channels")
        if crossed == shared:  # no other array stands for these
            merged.append(ids)

    def _within(self, small: np.ndarray, shape: tuple[int, ...], large: np.ndarray) -> None:
        """Channels along some of the dimensions of others, such as one scale for all heads."""
        extra = [d for d in axes_of(large) if small.shape[d] == 1]
        is_spread = any(shape[d] > 1 for d in extra)
        if is_spread or axes_of(large)[0] in axes_of(small):
            self.call.ids.unite(small, large)
        else:
            self.call.freeze(small, "they are shared by blocks of channels")
            self.call.ids.tie(large, axes_of(small))


def extent(tensor: Tensor) -> tuple[int, ...]:
    """Shape of a tensor, with 1 where `expand` repeats one entry."""
    return tuple(
        1 if stride == 0 else size
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )


def meet(
    call: Call, out_rank: int, *operands: tuple[Sequence[int], Sequence[np.ndarray]]
) -> list[np.ndarray]:
    """Unite what stands at one place of several operands, each a shape and its labels."""
    met = _Met(call, out_rank)
    for shape, labels in operands:
        met.add(shape, labels)
    return met.unite()


def reduce_ids(call: Call, ids: np.ndarray, dims: Sequence[int], keep: bool) -> np.ndarray | None:
    """The identities after a reduction; None if no channels are left."""
    inside = [d for d in dims if ids.shape[d] > 1]
    if inside and len(inside) == len(axes_of(ids)):
        return None
    if inside:
        ids = call.ids.tie(ids, inside)
    return ids if keep else ids.reshape([s for d, s in enumerate(ids.shape) if d not in dims])
