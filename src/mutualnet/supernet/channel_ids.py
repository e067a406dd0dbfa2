"""Identities of channels: which ones are one and the same, and which must all stay.

Every channel that a parameter makes or takes has a number, its identity. An array of identities
has as many dimensions as its tensor, and size 1 along those that hold no channels. What happens to
the tensor happens to the array, so a channel can be followed through any view.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Labels = tuple[np.ndarray, ...]
"""Identities of a tensor's channels: one array for each independent set of dimensions. A
convolution's (O, I, kh, kw) weight has four at first, of shapes (O, 1, 1, 1), (1, I, 1, 1), ..."""

LARGEST = 2_000_000
"""No array of identities grows larger than this; a network would have to be odd to need it."""


class MisalignedError(Exception):
    """A narrower network joins channels that are not one in the full network."""


class TooManyIdsError(Exception):
    """An array of identities would be too large to follow."""


class ChannelIds:
    """A union-find over identities, in which some are fixed: they stay at every width.

    A narrower network brings no new channels: what it says beyond what is known is refused. Only
    channels that it makes by itself, such as padding, are new there.
    """

    def __init__(self) -> None:
        self._parent = np.arange(4096)
        self._is_fixed = np.zeros(4096, dtype=bool)
        self._reasons: dict[int, str] = {}
        self._size = 0
        self.ordered: list[np.ndarray] = []
        """Identities of channels whose order counts."""
        self.known: int | None = None
        """How many identities were known when nothing new may be said; None if it may."""

    def new(self, count: int) -> np.ndarray:
        """Fresh identities, shape (count,)."""
        first, self._size = self._size, self._size + count
        if self._size > len(self._parent):
            grown = max(2 * len(self._parent), self._size)
            self._parent = np.concatenate([self._parent, np.arange(len(self._parent), grown)])
            self._is_fixed = np.concatenate(
                [self._is_fixed, np.zeros(grown - len(self._is_fixed), dtype=bool)]
            )
        return np.arange(first, self._size)

    def new_fixed(self, count: int, reason: str) -> np.ndarray:
        """Fresh identities of channels that stay at every width."""
        ids = self.new(count)
        self._is_fixed[ids] = True
        for number in ids.tolist():
            self._reasons[number] = reason
        return ids

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The one number by which all identities of the same channel are known."""
        roots = self._parent[ids]
        above = self._parent[roots]
        if np.array_equal(above, roots):
            return roots
        while not np.array_equal(above, roots):
            roots, above = above, self._parent[above]
        self._parent[ids] = roots
        return roots

    def unite(self, a: np.ndarray, b: np.ndarray) -> None:
        """Say that two arrays, which broadcast to each other, hold the same channels.

        Raises:
            MisalignedError: If they do not, when nothing new may be said.
        """
        a, b = np.broadcast_arrays(self.find(a), self.find(b))
        differ = a != b
        if not differ.any():
            return
        if self.known is not None:
            is_new = (a >= self.known) | (b >= self.known)
            if (differ & ~is_new & ~(self._is_fixed[a] & self._is_fixed[b])).any():
                raise MisalignedError(
                    "channels meet that are not the same ones in the full network"
                )
            differ &= is_new
            if not differ.any():
                return
        low, high = np.minimum(a[differ], b[differ]), np.maximum(a[differ], b[differ])
        pairs = np.unique(low * self._size + high)
        for pair in pairs.tolist():
            x, y = self._root(pair // self._size), self._root(pair % self._size)
            if x == y:
                continue
            keep, drop = min(x, y), max(x, y)
            self._parent[drop] = keep
            if self._is_fixed[drop] and not self._is_fixed[keep]:
                self._is_fixed[keep] = True
                self._reasons[keep] = self._reasons[drop]

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            number = int(self._parent[number])
        return number

    def tie(self, ids: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        """Say that channels are kept or dropped together along some axes.

        Returns:
            The identities of what is left, with size 1 along the axes.
        """
        first = ids
        for axis in axes:
            first = first.take([0], axis)
        self.unite(ids, first)
        return first

    def freeze(self, ids: np.ndarray, reason: str) -> None:
        """Say that channels stay at every width.

        Raises:
            MisalignedError: If they do not, when nothing new may be said.
        """
        roots = np.unique(self.find(ids))
        roots = roots[~self._is_fixed[roots]]
        if self.known is not None and (roots < self.known).any():
            raise MisalignedError(reason)
        self._is_fixed[roots] = True
        for root in roots.tolist():
            self._reasons[root] = reason

    def is_fixed(self, ids: np.ndarray) -> np.ndarray:
        """Which channels stay at every width, the shape of `ids`."""
        return self._is_fixed[self.find(ids)]

    def reason(self, number: int) -> str:
        """Why a channel is fixed."""
        return self._reasons[self._root(number)]

    def units(self, ids: np.ndarray) -> np.ndarray:
        """Like `find`, with -1 for whatever is fixed."""
        roots = self.find(ids)
        return np.where(self._is_fixed[roots], -1, roots)

    def __len__(self) -> int:
        return self._size


def axes_of(ids: np.ndarray) -> tuple[int, ...]:
    """The dimensions along which an array has channels."""
    return tuple(axis for axis, size in enumerate(ids.shape) if size > 1)


def compress(ids: np.ndarray, axes: Sequence[int] | None = None) -> np.ndarray:
    """Size 1 along every axis whose entries repeat."""
    for axis in axes_of(ids) if axes is None else axes:
        if ids.shape[axis] > 1:
            first = ids.take([0], axis)
            if np.array_equal(np.broadcast_to(first, ids.shape), ids):
                ids = first
    return ids


def reshape_ids(ids: np.ndarray, old: Sequence[int], new: Sequence[int]) -> np.ndarray:
    """The identities of a tensor after `reshape`.

    Args:
        ids: One array of the tensor's labels.
        old: The tensor's shape before.
        new: Its shape after.

    Raises:
        TooManyIdsError: If the dimensions that merge have too many entries.
    """
    source, target, check = [1] * len(old), [1] * len(new), []
    for before, after in _runs(old, new):
        if any(ids.shape[d] > 1 for d in before):
            for d in before:
                source[d] = old[d]
            for d in after:
                target[d] = new[d]
            check.extend(after)
    if np.prod(source, dtype=np.float64) > LARGEST:
        raise TooManyIdsError
    spread = np.broadcast_to(ids, source)
    return compress(spread.reshape(target), check)


def _runs(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of dimensions of two shapes with as many elements each."""
    runs = []
    i = j = 0
    while i < len(old) or j < len(new):
        before: list[int] = []
        after: list[int] = []
        left = right = 1
        while True:
            if left == right and before and after:
                break
            if (left <= right and i < len(old)) or j >= len(new):
                if i >= len(old):
                    break
                left *= old[i]
                before.append(i)
                i += 1
            else:
                right *= new[j]
                after.append(j)
                j += 1
        runs.append((before, after))
    return runs


def same_channels(ids: ChannelIds, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> bool:
    """Whether two tensors hold the same elastic channels in the same order."""
    x, y = (_elastic(ids, labels) for labels in (a, b))
    return len(x) == len(y) and all(np.array_equal(i, j) for i, j in zip(x, y, strict=True))


def _elastic(ids: ChannelIds, labels: Sequence[np.ndarray]) -> list[np.ndarray]:
    reduced = (compress(ids.units(array)) for array in labels)
    return [array for array in reduced if array.size > 1]
