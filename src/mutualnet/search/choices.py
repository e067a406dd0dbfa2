"""What a search can choose: a level on each of some axes, 0 the largest."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from mutualnet.space import Subnet
from mutualnet.supernet import Supernet

Point = tuple[int, ...]
"""A level on each axis: one for each unit of widths, then depth, then resolution."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Levels of the axes, and the sub-network that each point of them is."""

    units: tuple[tuple[str, ...], ...]
    """Names of channel groups that share a width."""
    widths: tuple[float, ...]
    depths: tuple[float | None, ...]
    resolutions: tuple[int, ...]
    frames: tuple[int | None, ...] = (None,)

    @classmethod
    def of(cls, supernet: Supernet, by: Literal["stage", "group"], num_widths: int) -> Choices:
        """All levels inside of a network's space.

        Args:
            supernet: Its space gives depths, resolutions, frames and the ends of the widths.
            by: Whether each stage has a width of its own, or each channel group; linked groups
                share one.
            num_widths: Widths at even distances; a space with a list has those of the list.

        Raises:
            ValueError: If `by` is neither, or `num_widths` is below 2.
        """
        if by not in ("stage", "group"):
            raise ValueError(f"by must be 'stage' or 'group', got {by!r}")
        if num_widths < 2:
            raise ValueError(f"num_widths must be >= 2, got {num_widths}")
        plan, space = supernet.plan, supernet.space
        low, high = space.width_range
        widths = space.widths
        if widths is None:
            levels = np.linspace(high, low, num_widths if low < high else 1)
            widths = tuple(round(float(width), 9) for width in levels)
        units = [stage.groups for stage in plan.stages]
        if by == "group":
            followers = {number for link in plan.links for number in link[1:]}
            units = [(n,) for n in range(len(plan.groups)) if n not in followers]
        return cls(
            units=tuple(tuple(plan.groups[n].name for n in unit) for unit in units),
            widths=widths,
            depths=space.grid_depths(),
            resolutions=space.resolutions,
            frames=space.grid_frames(),
        )

    @property
    def num_levels(self) -> tuple[int, ...]:
        """Levels of each axis."""
        scales = [len(self.depths), len(self.resolutions)]
        if len(self.frames) > 1:  # points of images stay what they were
            scales.append(len(self.frames))
        return (*[len(self.widths)] * len(self.units), *scales)

    def subnet(self, point: Point) -> Subnet:
        """The sub-network at a point; one width where all units have the same."""
        levels = point[: len(self.units)]
        depth, resolution, *frames = point[len(self.units) :]
        widths = [self.widths[level] for level in levels]
        most = max(widths)
        own = {
            name: width
            for unit, width in zip(self.units, widths, strict=True)
            for name in unit
            if width != most
        }
        return Subnet(
            width_mult=most,
            resolution=self.resolutions[resolution],
            num_frames=self.frames[frames[0] if frames else 0],
            depth_mult=self.depths[depth],
            group_widths=own or None,  # type: ignore[arg-type]
        )

    def uniform(self) -> list[Point]:
        """The points with one width for all units."""
        units = len(self.units)
        return [
            (*[width] * units, *scales)
            for width in range(len(self.widths))
            for scales in product(*map(range, self.num_levels[units:]))
        ]
