"""The plan: which positions of every parameter a sub-network keeps, as index lists."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from mutualnet.supernet.channel_group import ChannelGroup
from mutualnet.supernet.depth_plan import DepthPlan, is_inside
from mutualnet.supernet.layer_widths import group_shares

Index = slice | np.ndarray
"""Kept positions of one axis: `slice(0, n)` where they are a leading block, else a sorted array."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The part of an axis that one group occupies."""

    group: int
    positions: np.ndarray
    """(L,) places on the axis, sorted."""
    channels: np.ndarray
    """(L,) channel of the group at each place."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """A narrowed dimension, shared by all the tensors and attributes that it sizes."""

    size: int
    segments: tuple[Segment, ...]

    @cached_property
    def _is_ascending(self) -> bool:
        """Whether one group fills the axis in the order of its channels."""
        if len(self.segments) != 1:
            return False
        only = self.segments[0]
        return len(only.positions) == self.size and bool(np.all(np.diff(only.channels) >= 0))

    def index(self, counts: Sequence[int]) -> Index:
        """Positions that stay when each group keeps its first `counts[group]` channels."""
        if self._is_ascending:
            only = self.segments[0]
            return slice(0, int(np.searchsorted(only.channels, counts[only.group])))
        keep = np.ones(self.size, dtype=bool)
        for segment in self.segments:
            keep[segment.positions] = segment.channels < counts[segment.group]
        index = np.flatnonzero(keep)
        return slice(0, len(index)) if np.all(index == np.arange(len(index))) else index


@dataclass(frozen=True, kw_only=True)
class SizeAttribute:
    """An attribute of a module that says how many channels there are."""

    name: str
    item: int | None
    """Which number, where the attribute is a tuple or a list of them."""
    axis: Axis
    """What it counts."""


@dataclass(frozen=True, kw_only=True)
class WidthStage:
    """Channel groups whose layers' outputs have one resolution."""

    side: int
    """Side of those outputs in the example, in pixels."""
    groups: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Inelastic:
    """Layers that keep all their channels, and why."""

    layers: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class ChannelPlan:
    """Every narrowed axis of a model as a function of the groups' active channel counts."""

    groups: tuple[ChannelGroup, ...]
    tensors: Mapping[str, Mapping[int, Axis]]
    """Narrowed dimensions of each parameter and buffer, by its full name."""
    attributes: Mapping[str, tuple[SizeAttribute, ...]] = field(default_factory=dict)
    """What sizes a module has as attributes, by its full name."""
    inelastic: tuple[Inelastic, ...] = ()
    links: tuple[tuple[int, ...], ...] = ()
    """Groups that keep the same share of their channels, because the model's code computes the
    size of one from that of another; the first of each decides."""
    depth: DepthPlan = field(default_factory=DepthPlan)
    """Which blocks a sub-network runs."""
    stages: tuple[WidthStage, ...] = ()
    """All groups by resolution, in the order in which the network runs."""
    carried: tuple[str, ...] = ()
    """Narrowed buffers outside of BatchNorm that train mode writes to: a sub-network starts with
    its part of the full ones, and nothing calibrates them."""

    def counts(self, share: float, shares: Mapping[str, float] | None = None) -> tuple[int, ...]:
        """Active channels of every group.

        Args:
            share: Width multiplier divided by the full model's, in (0, 1].
            shares: The same by names of groups and names and patterns of layers, see
                `layer_widths.group_shares`.

        Raises:
            ValueError: If a name or pattern matches nothing, or two contradict each other.
        """
        own = group_shares(self.groups, self.links, shares) if shares else {}
        return self.linked(
            group.count(own.get(number, share)) for number, group in enumerate(self.groups)
        )

    def without(self, counts: Sequence[int], removed: Collection[str]) -> tuple[int, ...]:
        """Counts with the full size of groups that blocks alone make which are left out.

        What these keep does not matter, so that equal networks have equal counts.
        """
        if not removed:
            return tuple(counts)
        return tuple(
            group.size if all(is_inside(layer, removed) for layer in group.layers) else count
            for group, count in zip(self.groups, counts, strict=True)
        )

    def linked(self, counts: Iterable[int]) -> tuple[int, ...]:
        """Counts in which linked groups keep the share that the first of them keeps."""
        found = list(counts)
        for link in self.links:
            groups = [self.groups[number] for number in link]
            blocks = math.gcd(*(group.size // group.step for group in groups))
            kept = math.floor(found[link[0]] * blocks / groups[0].size + 0.5)
            kept = min(blocks, max(kept, 1, *(self._least_blocks(g, blocks) for g in groups)))
            for number, group in zip(link, groups, strict=True):
                found[number] = group.size // blocks * kept
        return tuple(found)

    @staticmethod
    def _least_blocks(group: ChannelGroup, blocks: int) -> int:
        return math.ceil(group.least * group.step * blocks / group.size)

    @property
    def full_counts(self) -> tuple[int, ...]:
        """Every group at its full size."""
        return tuple(group.size for group in self.groups)

    def inside(self, part: str) -> ChannelPlan:
        """The plan of a model in which the one of this plan is a submodule, by its name."""
        if not part:
            return self

        def full(name: str) -> str:
            return f"{part}.{name}" if name else part

        def all_full(names: Iterable[str]) -> tuple[str, ...]:
            return tuple(map(full, names))

        return replace(
            self,
            groups=tuple(
                replace(group, name=full(group.name), layers=all_full(group.layers))
                for group in self.groups
            ),
            tensors={full(name): axes for name, axes in self.tensors.items()},
            attributes={full(path): found for path, found in self.attributes.items()},
            carried=all_full(self.carried),
            inelastic=tuple(
                replace(frozen, layers=all_full(frozen.layers)) for frozen in self.inelastic
            ),
            depth=DepthPlan(
                stages=tuple(
                    replace(stage, name=full(stage.name), blocks=all_full(stage.blocks))
                    for stage in self.depth.stages
                ),
                lasting=tuple(
                    replace(block, name=full(block.name)) for block in self.depth.lasting
                ),
            ),
        )

    def indices(self, counts: Sequence[int]) -> dict[str, dict[int, Index]]:
        """Kept positions per narrowed dimension of every parameter and buffer, by full name."""
        known: dict[int, Index] = {}

        def index_of(axis: Axis) -> Index:
            if id(axis) not in known:
                known[id(axis)] = axis.index(counts)
            return known[id(axis)]

        return {
            name: {dim: index_of(axis) for dim, axis in axes.items()}
            for name, axes in self.tensors.items()
        }

    def sizes(self, counts: Sequence[int]) -> dict[str, dict[tuple[str, int | None], int]]:
        """Sizes that the modules of the narrow model carry: module, (attribute, item), value."""
        known: dict[int, int] = {}

        def length(axis: Axis) -> int:
            if id(axis) not in known:
                known[id(axis)] = index_length(axis.index(counts))
            return known[id(axis)]

        return {
            module: {(a.name, a.item): length(a.axis) for a in attributes}
            for module, attributes in self.attributes.items()
        }


def index_length(index: Index) -> int:
    """How many positions an index keeps."""
    return index.stop if isinstance(index, slice) else len(index)
