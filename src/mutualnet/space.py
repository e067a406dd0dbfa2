"""What can be chosen: one sub-network, and the space of all of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any

from mutualnet.numbers import check_countable, check_numbers

_TOLERANCE = 1e-9
"""Two width multipliers closer than this are the same (0.05 * 20 is not 1.0 in floating point)."""
_MOST_SHOWN = 3
"""Group widths that a sub-network's short name spells out."""
_MAX_WIDTH, _MAX_SIDE, _MAX_FRAMES, _MAX_GRID = 64.0, 4096, 1024, 4096
"""What a space may have at most: width multiplier, pixels of a side, frames, sub-networks of the
grid."""


INT8 = "int8"
"""The precision of quantised configurations."""


def _is_real(value: Any) -> bool:
    """Whether a value is a real number, numpy's among them; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_side(value: Any) -> bool:
    return _is_real(value) and 1 <= value < math.inf and value == int(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subnet:
    """One choice of width, resolution and, where the network has them, frames and depth.

    Numbers of other types, such as numpy's, become Python's.

    Raises:
        ValueError: If a multiplier is not positive or a count is no whole number from 1.
    """

    width_mult: float = 1.0
    """Share of active channels; 1.0 is the base network."""
    resolution: int = 224
    """Side of the square input, in pixels."""
    num_frames: int | None = None
    """Input frames of a clip; None for images."""
    depth_mult: float | None = None
    """Share of each stage's residual blocks that run, the first ones; None runs them all."""
    group_widths: tuple[tuple[str, float], ...] | None = None
    """Width multipliers in place of `width_mult`, as pairs or a mapping: by names of channel groups
    as `Supernet.report()` shows them, by names of layers, or by patterns of these such as
    `layer1.*`. For a layer that several match, its own name counts, then the pattern with the most
    characters that are no wildcards."""
    precision: str | None = None
    """`int8` for a quantised configuration of an artifact; None for the weights' own format."""

    def __post_init__(self) -> None:
        for field in fields(self):
            check_countable(field.name, getattr(self, field.name))
        for name in ("width_mult", "depth_mult"):
            self._make_float(name)
        for name in ("resolution", "num_frames"):
            self._make_whole(name)
        if not self.width_mult > 0:
            raise ValueError(f"width_mult must be > 0, got {self.width_mult:g}")
        if self.width_mult == math.inf:
            raise ValueError("width_mult must be finite, got inf")
        if self.depth_mult is not None and not 0 < self.depth_mult <= 1:
            raise ValueError(f"depth_mult must lie in (0, 1], got {self.depth_mult}")
        if self.group_widths is not None:
            clean = self._clean_group_widths(self.group_widths)
            for name, width in clean:
                if not width > 0:
                    raise ValueError(f"group_widths must be > 0, got {width} for {name!r}")
                if width == math.inf:
                    raise ValueError(f"group_widths must be finite, got inf for {name!r}")
            if len({name for name, _ in clean}) < len(clean):
                raise ValueError(f"group_widths must name each once, got {clean}")
            object.__setattr__(self, "group_widths", clean or None)
        if self.precision not in (None, INT8):
            raise ValueError(f"precision must be {INT8!r} or None, got {self.precision!r:.80}")

    @staticmethod
    def _clean_group_widths(widths: Any) -> tuple[tuple[str, float], ...]:
        pairs = widths.items() if isinstance(widths, Mapping) else widths
        for pair in pairs if isinstance(pairs, Iterable) else (pairs,):
            is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
            if not is_pair or not _is_real(pair[1]):
                raise ValueError(f"group_widths must pair names with numbers, got {pair!r:.80}")
        return tuple(sorted((str(name), float(width)) for name, width in pairs))

    def _make_float(self, name: str) -> None:
        value = getattr(self, name)
        if type(value) is float or (value is None and name == "depth_mult"):
            return
        if not _is_real(value):
            raise ValueError(f"{name} must be a number, got {value!r:.80}")
        object.__setattr__(self, name, float(value))

    def _make_whole(self, name: str) -> None:
        value = getattr(self, name)
        if (type(value) is int and value >= 1) or (value is None and name == "num_frames"):
            return
        if not _is_side(value):
            raise ValueError(f"{name} must be a whole number >= 1, got {value!r:.80}")
        object.__setattr__(self, name, int(value))

    def __str__(self) -> str:
        parts = [f"{self.width_mult:.9g}x{self.resolution}"]
        if self.num_frames is not None:
            parts.append(f"x{self.num_frames}f")
        if self.depth_mult is not None:
            parts.append(f" depth {self.depth_mult:.9g}")
        if self.group_widths:
            parts.append(f" ({self._short_widths()})")
        if self.precision is not None:
            parts.append(f" {self.precision}")
        return "".join(parts)

    def _short_widths(self) -> str:
        """All group widths where they are few; else their number and what tells them apart."""
        assert self.group_widths is not None  # asked for only where there are some
        texts = [f"{name}={width:.9g}" for name, width in self.group_widths]
        # No commas: these part the names of sub-networks.
        if len(texts) <= _MOST_SHOWN and not any("," in text for text in texts):
            return " ".join(texts)
        digest = hashlib.sha256(repr(self.group_widths).encode()).hexdigest()[:6]
        return f"{len(texts)} widths #{digest}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the fields that were not chosen."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        if self.group_widths is not None:
            values["group_widths"] = dict(self.group_widths)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Subnet:
        """Read back what `to_dict` wrote.

        Raises:
            ValueError: If a field is unknown.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"a Subnet has no field {unknown[0]!r}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class ElasticSpace:
    """Every sub-network that one supernet is trained to run as.

    Raises:
        ValueError: If a range is empty or a value out of range.
    """

    width_range: tuple[float, float] = (0.25, 1.0)
    """Smallest and largest width multiplier."""
    widths: tuple[float, ...] | None = None
    """A fixed list of width multipliers in place of the range, which then becomes its hull."""
    resolutions: tuple[int, ...] = (224, 192, 160, 128)
    """Sides of the square inputs, in pixels; kept in descending order."""
    depths: tuple[float, ...] = (1.0,)
    """Depth multipliers, each the share of residual blocks that run; kept in descending order."""
    frames: tuple[int, ...] | None = None
    """Frames of the input clips, None for images; kept in descending order."""
    width_step: float = 0.05
    """Step of the query grid between the two ends of the range."""
    model_width_mult: float | None = None
    """Width multiplier of the model as given: by default 1, or the top of the range if wider."""

    def __post_init__(self) -> None:
        for name in ("width_range", "widths", "resolutions", "depths", "frames"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, Collection):
                raise ValueError(f"{name} must be a list, got {value!r:.80}")
            object.__setattr__(self, name, tuple(value))
        self._check_reals()
        check_numbers(self)
        if self.widths is not None:
            if not self.widths:
                raise ValueError("widths must name at least one width multiplier, got none")
            widths = tuple(sorted({float(width) for width in self.widths}, reverse=True))
            object.__setattr__(self, "widths", widths)
            object.__setattr__(self, "width_range", (widths[-1], widths[0]))
        if len(self.width_range) != 2:
            raise ValueError(f"width_range must be (low, high), got {self.width_range}")
        low, high = (float(width) for width in self.width_range)
        if not 0 < low <= high:
            raise ValueError(
                f"width_range must satisfy 0 < low <= high, got {tuple(self.width_range)}. "
                "Width 1.0 is the base network."
            )
        object.__setattr__(self, "width_range", (low, high))
        if not self.resolutions or not all(map(_is_side, self.resolutions)):
            raise ValueError(
                f"resolutions must be whole numbers of pixels >= 1, got {tuple(self.resolutions)}"
            )
        if max(self.resolutions) > _MAX_SIDE:
            raise ValueError(
                f"resolutions must be at most {_MAX_SIDE} pixels, got {max(self.resolutions)}"
            )
        sides = tuple(sorted({int(side) for side in self.resolutions}, reverse=True))
        object.__setattr__(self, "resolutions", sides)
        if not self.depths or not all(0 < depth <= 1 for depth in self.depths):
            raise ValueError(f"depths must lie in (0, 1], got {tuple(self.depths)}")
        depths = tuple(sorted({float(depth) for depth in self.depths}, reverse=True))
        object.__setattr__(self, "depths", depths)
        if self.frames is not None:
            self._check_frames(self.frames)
            object.__setattr__(
                self, "frames", tuple(sorted({int(count) for count in self.frames}, reverse=True))
            )
        if not self.width_step > 0:
            raise ValueError(f"width_step must be > 0, got {self.width_step}")
        if self.model_width_mult is None:
            object.__setattr__(self, "model_width_mult", max(1.0, high))
        elif self.model_width_mult < high - _TOLERANCE:
            raise ValueError(
                f"model_width_mult must be at least the top of width_range, got "
                f"{self.model_width_mult} < {high}. Build the model as wide as the widest of them."
            )
        if self.full_width_mult > _MAX_WIDTH:
            raise ValueError(
                f"width multipliers must be at most {_MAX_WIDTH:g}, got {self.full_width_mult:g}. "
                "Width 1.0 is the base network."
            )
        num_widths = self._num_steps + 1 if self.widths is None else len(self.widths)
        counts = self.grid_frames()
        if num_widths * len(depths) * len(sides) * len(counts) > _MAX_GRID:
            more = f", {len(depths)} depths" if len(depths) > 1 else ""
            more += f", {len(counts)} numbers of frames" if len(counts) > 1 else ""
            raise ValueError(
                f"the grid must have at most {_MAX_GRID} sub-networks, got {num_widths:.4g} widths "
                f"at {len(sides)} resolutions{more}. Raise width_step, which is "
                f"{self.width_step:g}."
            )

    def _check_reals(self) -> None:
        for name in ("width_range", "widths", "depths"):
            values = getattr(self, name)
            if values is not None and not all(map(_is_real, values)):
                raise ValueError(f"{name} must hold numbers alone, got {values!r:.80}")
        for name in ("width_step", "model_width_mult"):
            value = getattr(self, name)
            if not _is_real(value) and not (value is None and name == "model_width_mult"):
                raise ValueError(f"{name} must be a number, got {value!r:.80}")

    @staticmethod
    def _check_frames(frames: tuple[int, ...]) -> None:
        if not frames or not all(map(_is_side, frames)):
            raise ValueError(f"frames must be whole numbers >= 1, got {tuple(frames)}")
        if max(frames) > _MAX_FRAMES:
            raise ValueError(f"frames must be at most {_MAX_FRAMES}, got {max(frames)}")

    @property
    def full_width_mult(self) -> float:
        """Width multiplier of the model as given: its channels are the full ones."""
        assert self.model_width_mult is not None  # set above
        return self.model_width_mult

    @property
    def _num_steps(self) -> float:
        """Steps between the two ends, not rounded: there may be more than can be counted."""
        low, high = self.width_range
        return (high - low) / self.width_step

    @property
    def largest(self) -> Subnet:
        """The widest and deepest sub-network at the top resolution, with all frames."""
        return Subnet(
            width_mult=self.width_range[1],
            resolution=self.resolutions[0],
            num_frames=self.grid_frames()[0],
            depth_mult=self.grid_depths()[0],
        )

    @property
    def smallest(self) -> Subnet:
        """The narrowest and shallowest sub-network at the lowest resolution, of fewest frames."""
        return Subnet(
            width_mult=self.width_range[0],
            resolution=self.resolutions[-1],
            num_frames=self.grid_frames()[-1],
            depth_mult=self.grid_depths()[-1],
        )

    def grid_depths(self) -> tuple[float | None, ...]:
        """Depth multipliers as a `Subnet` has them, the deepest first; None for all blocks."""
        return tuple(None if depth == 1 else depth for depth in self.depths)

    def grid_frames(self) -> tuple[int | None, ...]:
        """Numbers of frames as a `Subnet` has them, the largest first; None for images."""
        return (None,) if self.frames is None else self.frames

    def grid_widths(self) -> tuple[float, ...]:
        """Width multipliers of the query grid, widest first: both ends and every step between."""
        if self.widths is not None:
            return self.widths
        low, high = self.width_range
        steps = {
            round(low + i * self.width_step, 9) for i in range(int(self._num_steps + 1e-6) + 1)
        }
        # The top replaces a step that falls on it, so that rounding never makes two of one.
        inner = {width for width in steps if high - width > 1e-6}
        return tuple(sorted(inner | {high}, reverse=True))

    def grid(self) -> tuple[Subnet, ...]:
        """All sub-networks of the query grid.

        They go by falling width, then depth, then resolution, then frames.
        """
        return tuple(
            Subnet(width_mult=width, resolution=resolution, num_frames=frames, depth_mult=depth)
            for width in self.grid_widths()
            for depth in self.grid_depths()
            for resolution in self.resolutions
            for frames in self.grid_frames()
        )

    def check(self, subnet: Subnet) -> None:
        """Refuse a sub-network that training never reaches.

        Raises:
            ValueError: If the width, resolution, frames or depth lie outside the space.
        """
        low, high = self.width_range
        chosen = [subnet.width_mult, *(width for _, width in subnet.group_widths or ())]
        for width in chosen:
            inside = low - _TOLERANCE <= width <= high + _TOLERANCE
            if self.widths is not None:
                inside = any(abs(width - known) <= _TOLERANCE for known in self.widths)
            if not inside:
                allowed = f"one of {self.widths}" if self.widths else f"in [{low:g}, {high:g}]"
                raise ValueError(
                    f"width_mult must be {allowed}, the widths this space trains, got {width:g}. "
                    "Widen the space and train again: untrained widths give meaningless outputs."
                )
        if subnet.resolution not in self.resolutions:
            raise ValueError(
                f"resolution must be one of {self.resolutions}, got {subnet.resolution}. "
                "Add it to the space's resolutions."
            )
        self._check_num_frames(subnet.num_frames)
        if subnet.precision is not None:
            raise ValueError(
                f"precision must be None for a network in PyTorch, got {subnet.precision!r}: "
                "quantised configurations are in artifacts (`mutualnet export --int8`)"
            )
        self._check_depth(subnet.depth_mult)

    def _check_num_frames(self, num_frames: int | None) -> None:
        if num_frames in self.grid_frames():
            return
        if self.frames is None:
            raise ValueError(
                f"num_frames must be None in a space of images, got {num_frames}; or give the "
                "space frames and train on clips"
            )
        raise ValueError(
            f"num_frames must be one of {self.frames}, got {num_frames}. Add it to the space's "
            "frames and train again."
        )

    def _check_depth(self, depth_mult: float | None) -> None:
        depth = 1.0 if depth_mult is None else depth_mult
        if any(abs(depth - known) <= _TOLERANCE for known in self.depths):
            return
        if self.depths == (1.0,):
            raise ValueError(
                "depth_mult is not elastic in this space, leave it None; or give the space depths "
                "and train again"
            )
        raise ValueError(
            f"depth_mult must be one of {self.depths}, the depths this space trains, got "
            f"{depth:g}. Add it to the space's depths and train again."
        )
