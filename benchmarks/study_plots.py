"""Pictures of a study: scores over budgets, differences with their intervals, the regime."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks.spread import half_interval
from benchmarks.study_verdict import HOLDS, HOLDS_NOT, Verdict

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which people of every colour vision tell apart."""
_MARKERS = "osD^vP*"
_LINES = ("-", "-", "--", "-.", ":")
"""Dashes, so that a curve on top of another one leaves it to be seen."""
_OF_VERDICT = {HOLDS: COLOURS[0], HOLDS_NOT: COLOURS[1]}
_OPEN = "#767676"

Curve = Mapping[float, Sequence[float]]
"""Scores of the seeds, by budget or share."""


def plot_curves(curves: Mapping[str, Curve], path: Path, *, x: str, y: str) -> None:
    """Means over seeds with 95 % intervals, on a logarithmic axis.

    Args:
        curves: By title.
        path: PNG to write.
        x: Label of the axis.
        y: Label of the axis.
    """
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for number, (title, found) in enumerate(curves.items()):
        places = sorted(found)
        axes.errorbar(
            places,
            [statistics.mean(found[place]) for place in places],
            [half_interval(found[place]) for place in places],
            label=title,
            color=COLOURS[number % len(COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            linestyle=_LINES[number % len(_LINES)],
            capsize=3,
        )
    axes.set(xscale="log", xlabel=x, ylabel=y)
    ticks = sorted({place for found in curves.values() for place in found})
    axes.set_xticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_differences(verdicts: Mapping[str, Verdict], path: Path) -> None:
    """A dot and its interval for each claim, coloured by what it says.

    Args:
        verdicts: By the claim's name; those without a seed are left out.
        path: PNG to write.
    """
    shown = [
        (name, found, found.mean) for name, found in verdicts.items() if found.mean is not None
    ]
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.24 * len(shown)), layout="constrained")
    for place, (_, found, mean) in enumerate(reversed(shown)):
        colour = _OF_VERDICT.get(found.word, _OPEN)
        axes.errorbar(mean, place, xerr=found.half, color=colour, marker="o", capsize=3)
    axes.set_yticks(range(len(shown)), labels=[name for name, *_ in reversed(shown)])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("points of test accuracy by which the claim's method is ahead")
    axes.grid(axis="x", alpha=0.3)
    for word, colour in (*_OF_VERDICT.items(), ("not decided, or unfinished", _OPEN)):
        axes.plot([], [], color=colour, marker="o", label=word)
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    _save(figure, path)


def plot_regime(curves: Mapping[str, Curve], path: Path) -> None:
    """Differences over the share of the images, a line for each method and network."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for number, (title, found) in enumerate(curves.items()):
        shares = sorted(found)
        axes.errorbar(
            # A little apart, so that intervals do not cover each other.
            [share * 1.012 ** (number - len(curves) / 2) for share in shares],
            [statistics.mean(found[share]) for share in shares],
            [half_interval(found[share]) for share in shares],
            label=title,
            color=COLOURS[number % len(COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            linestyle=_LINES[number % len(_LINES)],
            capsize=3,
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="share of the train images", ylabel="points ahead")
    ticks = sorted({share for found in curves.values() for share in found})
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    # Without the version of the library, so that equal pictures are equal files.
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
