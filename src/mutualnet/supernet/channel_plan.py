"""The plan: which positions of every parameter a sub-network keeps, as index lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mutualnet.supernet.channel_rules import PLAIN, ChannelRule

Index = slice | np.ndarray
"""Kept positions of one axis: `slice(0, n)` where they are a leading block, else a sorted array."""


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Channels that must be kept or dropped together, because the network ties them."""

    name: str
    """The first layer that makes them."""
    size: int
    """Channels in the full model."""
    layers: tuple[str, ...]
    """Every layer that makes them."""
    step: int = 1
    """Channels that must stay together, because a grouped layer computes them together."""
    rule: ChannelRule = PLAIN

    def count(self, share: float) -> int:
        """Active channels at a share of the full model's width."""
        return self.rule.count(self.size, share, self.step)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The part of an axis that one group occupies."""

    group: int
    positions: np.ndarray
    """(L,) places on the axis, sorted."""
    channels: np.ndarray
    """(L,) channel of the group at each place."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One narrowed dimension of a layer, shared by the parameters and attributes it sizes."""

    size: int
    segments: tuple[Segment, ...]
    parameter_dims: tuple[tuple[str, int], ...]
    """(parameter or buffer name, dimension) of the layer."""
    attributes: tuple[tuple[str, int], ...]
    """(attribute of the layer, positions per unit of it): `groups` counts blocks, not channels."""

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
class Inelastic:
    """Layers that keep all their channels, and why."""

    layers: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class ChannelPlan:
    """Every narrowed axis of a model as a function of the groups' active channel counts."""

    groups: tuple[ChannelGroup, ...]
    axes: Mapping[str, tuple[Axis, ...]]
    """Axes by the full name of their layer."""
    inelastic: tuple[Inelastic, ...] = ()
    input_channels: int = 3
    """Channels of the model's input."""
    _by_name: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name = {group.name: number for number, group in enumerate(self.groups)}
        object.__setattr__(self, "_by_name", by_name)

    def counts(
        self, share: float, group_shares: Mapping[str, float] | None = None
    ) -> tuple[int, ...]:
        """Active channels of every group.

        Args:
            share: Width multiplier divided by the full model's, in (0, 1].
            group_shares: The same for single groups, by name.

        Raises:
            ValueError: If a name is no group's.
        """
        shares = dict(group_shares or {})
        unknown = sorted(set(shares) - set(self._by_name))
        if unknown:
            raise ValueError(
                f"group_widths must name channel groups of the model, got {unknown[0]!r}. "
                f"Known: {', '.join(list(self._by_name)[:8])}... (see Supernet.report())"
            )
        return tuple(group.count(shares.get(group.name, share)) for group in self.groups)

    @property
    def full_counts(self) -> tuple[int, ...]:
        """Every group at its full size."""
        return tuple(group.size for group in self.groups)

    def indices(self, counts: Sequence[int]) -> dict[str, dict[int, Index]]:
        """Kept positions per narrowed dimension of every parameter and buffer, by full name."""
        kept: dict[str, dict[int, Index]] = {}
        for layer, axes in self.axes.items():
            for axis in axes:
                index = axis.index(counts)
                for name, dim in axis.parameter_dims:
                    kept.setdefault(f"{layer}.{name}" if layer else name, {})[dim] = index
        return kept

    def attributes(self, counts: Sequence[int]) -> dict[str, dict[str, int]]:
        """Sizes that the layers of the narrow model carry as attributes, by layer name."""
        values: dict[str, dict[str, int]] = {}
        for layer, axes in self.axes.items():
            for axis in axes:
                length = index_length(axis.index(counts))
                for name, unit in axis.attributes:
                    values.setdefault(layer, {})[name] = length // unit
        return values


def index_length(index: Index) -> int:
    """How many positions an index keeps."""
    return index.stop if isinstance(index, slice) else len(index)
