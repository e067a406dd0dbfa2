"""Charts as SVG text: two axes with their ticks, lines and points."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mutualnet.messages import printable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by colour-blind people too (Okabe and Ito 2008), without the yellow, pale on white."""
SHAPES = ("circle", "square", "triangle", "diamond")
_DASHES = ("", "7 3", "2 3")
_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 48
_LOG_FROM = 6.0
"""Ratio of the highest to the lowest value from which an axis may be logarithmic."""

_MOST = 1e150
"""Largest number that is told apart from larger ones; its inverse is the smallest."""


def escaped(value: object) -> str:
    """Text that is no markup, inside an attribute too."""
    return html.escape(printable(str(value)), quote=True)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """From values to their places in [0, 1]."""

    label: str
    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False
    """Whether only whole numbers are ticks."""

    @classmethod
    def around(
        cls,
        values: Iterable[float],
        label: str,
        *,
        may_be_log: bool = False,
        is_whole: bool = False,
    ) -> Axis:
        """An axis with a little room around values, of which there is at least one."""
        # Of larger numbers neither differences nor ratios could be told.
        values = [min(_MOST, max(-_MOST, value)) for value in values]
        low, high = min(values), max(values)
        if may_be_log and low > 0:
            low, high = max(low, 1 / _MOST), max(high, 1 / _MOST)
        if may_be_log and low > 0 and high / low >= _LOG_FROM:
            room = (high / low) ** 0.05
            return cls(label=label, low=low / room, high=high * room, is_log=True)
        room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(label=label, low=low - room, high=high + room, is_whole=is_whole)

    def place(self, value: float) -> float:
        """Where a value lies, 0 at the low end; beyond an end it is at that end."""
        value = min(self.high, max(self.low, value))
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values on the axis."""
        if self.is_log:
            first, end = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            # No more than can be read.
            exponents = [n for n in range(first, end) if n % (1 + (end - first) // 16) == 0]
            steps = (1, 2, 5) if end - first <= 7 else (1,)
            found = [step * 10.0**exponent for exponent in exponents for step in steps]
        else:
            rough = (self.high - self.low) / 7
            unit = 10.0 ** math.floor(math.log10(rough))
            step = next(s * unit for s in (1, 2, 5, 10) if s * unit >= rough * 0.999)
            step = max(step, 1.0) if self.is_whole else step
            first = math.ceil(self.low / step)
            found = [(first + number) * step for number in range(12)]
        return [
            tick
            for tick in found
            if self.low <= tick <= self.high and not (self.is_whole and tick % 1)
        ]


class Chart:
    """An SVG picture that grows by lines and points.

    Args:
        x: Horizontal axis.
        y: Vertical axis.
        label: What it shows, for people who hear it read.
    """

    def __init__(self, x: Axis, y: Axis, label: str) -> None:
        self._x, self._y = x, y
        self._parts = [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escaped(label)}">'
        ]
        self._draw_axes()

    def line(self, points: Sequence[tuple[float, float]], index: int | None = None) -> None:
        """Join points.

        Args:
            points: In order, at least one.
            index: Of the series, for colour and dashes; None for a thin dark line.
        """
        path = " ".join(f"{self._left(x):.1f},{self._top(y):.1f}" for x, y in points)
        colour, dash, width = "#444", "", 1.2
        if index is not None:
            colour, dash, width = COLOURS[index % len(COLOURS)], _dash(index), 2.0
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"'
            f' stroke-dasharray="{dash}"/>'
        )

    def error_bar(self, x: float, y: float, error: float, index: int) -> None:
        """Draw a vertical line an error long in both directions, as far as the axis reaches."""
        ends = [min(self._y.high, max(self._y.low, value)) for value in (y - error, y + error)]
        left, (bottom, top) = self._left(x), map(self._top, ends)
        colour = COLOURS[index % len(COLOURS)]
        self._parts.append(
            f'<line x1="{left:.1f}" x2="{left:.1f}" y1="{bottom:.1f}" y2="{top:.1f}" '
            f'stroke="{colour}"/>'
        )

    def point(
        self, x: float, y: float, index: int, *, strong: bool = True, about: str = "", use: str = ""
    ) -> None:
        """Draw a point.

        Args:
            x: In the axis' unit.
            y: In the axis' unit.
            index: Of the series, for colour and shape.
            strong: Filled, or an outline.
            about: Shown while the pointer is on it.
            use: Shown when it is clicked.
        """
        shape = _shape(self._left(x), self._top(y), 6.0 if strong else 4.5, index, strong)
        if about:
            shape = (
                f'<g class="point" tabindex="0" role="button" data-about="{escaped(about)}" '
                f'data-use="{escaped(use)}"><title>{escaped(about)}</title>{shape}</g>'
            )
        self._parts.append(shape)

    def text(self) -> str:
        """The whole picture."""
        return "\n".join([*self._parts, "</svg>"])

    def _left(self, x: float) -> float:
        return _LEFT + self._x.place(x) * (_WIDTH - _LEFT - _RIGHT)

    def _top(self, y: float) -> float:
        return _HEIGHT - _BOTTOM - self._y.place(y) * (_HEIGHT - _TOP - _BOTTOM)

    def _draw_axes(self) -> None:
        bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        for tick in self._x.ticks():
            left = f"{self._left(tick):.1f}"
            self._parts.append(
                f'<line class="grid" x1="{left}" x2="{left}" y1="{_TOP}" y2="{bottom}"/>'
            )
            self._write(left, bottom + 18, f"{tick:g}", "middle")
        for tick in self._y.ticks():
            top = self._top(tick)
            self._parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{top:.1f}" y2="{top:.1f}"/>'
            )
            self._write(f"{_LEFT - 8}", top + 4, f"{tick:g}", "end")
        self._write(f"{(_LEFT + right) / 2}", _HEIGHT - 8, self._x.label, "middle")
        middle = (_TOP + bottom) / 2
        turned = f' transform="rotate(-90 14 {middle})"'
        self._write("14", middle, self._y.label, "middle", turned)

    def _write(self, left: str, top: float, text: str, anchor: str, more: str = "") -> None:
        self._parts.append(
            f'<text x="{left}" y="{top:.1f}" text-anchor="{anchor}"{more}>{escaped(text)}</text>'
        )


def legend(names: Sequence[str], *, are_lines: bool) -> str:
    """A list of series, each with its sign, in the order of their indices."""
    items = []
    for index, name in enumerate(names):
        sign = _shape(13, 7, 5, index, True)
        if are_lines:
            sign = (
                f'<line x1="0" x2="26" y1="7" y2="7" stroke="{COLOURS[index % len(COLOURS)]}" '
                f'stroke-width="2.5" stroke-dasharray="{_dash(index)}"/>'
            )
        items.append(f'<li><svg width="26" height="14">{sign}</svg> {escaped(name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _dash(index: int) -> str:
    return _DASHES[index // len(COLOURS) % len(_DASHES)]


def _shape(left: float, top: float, size: float, index: int, strong: bool) -> str:
    colour, shape = COLOURS[index % len(COLOURS)], SHAPES[index % len(SHAPES)]
    paint = f'fill="{colour}" stroke="white"' if strong else f'fill="white" stroke="{colour}"'
    if shape == "circle":
        return f'<circle cx="{left:.1f}" cy="{top:.1f}" r="{size}" {paint}/>'
    corners = {
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "triangle": ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
        "diamond": ((0, -1.3), (1.1, 0), (0, 1.3), (-1.1, 0)),
    }[shape]
    points = " ".join(f"{left + size * x:.1f},{top + size * y:.1f}" for x, y in corners)
    return f'<polygon points="{points}" {paint}/>'
