"""A query table for the eye: the picture of its frontier, and the terminal's table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mutualnet.numbers import in_digits
from mutualnet.selection import Selection
from mutualnet.space import Subnet
from mutualnet.table import TEST, QueryTable, Row, SplitScore

_INK = "#333333"
_LOG_FROM = 6.0
"""Ratio of the dearest to the cheapest row from which the cost axis is logarithmic."""


def plot_frontier(
    table: QueryTable,
    path: Path | str,
    *,
    cost: Literal["macs", "latency_ms"] = "macs",
    title: str | None = None,
) -> None:
    """Draw score over cost: a point for each sub-network, and a line along those worth running.

    Colours are resolutions, error bars one standard error, faint points dominated sub-networks.
    The scores are those of one split, which the axis names: of the test split if every row worth
    running has one, and then rows without it are left out; else of the split that chose.

    Args:
        table: What to draw.
        path: Where the picture goes; the suffix chooses the format.
        cost: What the horizontal axis shows.
        title: Heading of the picture.

    Raises:
        ValueError: If `cost` is unknown, or a row has no latency when it is asked for.
    """
    front = table.front(cost)
    on_front = {row.subnet for row in front}
    split = shown_split(table, cost)
    points = {row.subnet: found for row in table.finished if (found := score_on(table, row, split))}
    figure = Figure(figsize=(7.2, 4.4), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(
        [_cost(row, cost) for row in front],
        [points[row.subnet].value for row in front],
        color=_INK,
        linewidth=1.2,
        zorder=2,
        label=f"best for its cost on {table.select_split}",
    )
    drawn = [row for row in table.finished if row.subnet in points]
    resolutions = sorted({row.subnet.resolution for row in drawn}, reverse=True)
    # The two ends of the map are too dark and too pale to tell points from ink and paper.
    places = [0.1 + 0.75 * i / max(1, len(resolutions) - 1) for i in range(len(resolutions))]
    for resolution, place in zip(resolutions, places, strict=True):
        colour = matplotlib.colormaps["plasma"](place)
        rows = [row for row in drawn if row.subnet.resolution == resolution]
        for strong in (False, True):
            some = [row for row in rows if (row.subnet in on_front) == strong]
            axes.errorbar(
                [_cost(row, cost) for row in some],
                [points[row.subnet].value for row in some],
                yerr=[points[row.subnet].standard_error or 0.0 for row in some],
                fmt="o",
                color=colour,
                alpha=1.0 if strong else 0.25,
                markersize=5.5 if strong else 4.0,
                markeredgecolor="white" if strong else colour,
                markeredgewidth=0.6,
                elinewidth=1.0,
                capsize=2.0 if strong else 0.0,
                zorder=3 if strong else 1,
            )
        axes.plot([], [], "o", color=colour, label=f"{resolution} px")
    _label_ends(axes, front, points, cost)
    _style(axes, drawn, cost)
    axes.set_ylabel(f"{table.score_name} on {split}", parse_math=False)
    if title:
        axes.set_title(title, loc="left", color=_INK, fontsize=12, parse_math=False)
    figure.savefig(path)


def print_table(table: QueryTable, console: Console, only_front: bool = True) -> None:
    """Print the table to a terminal, the most costly row first.

    Args:
        table: What to show.
        console: Where to.
        only_front: Leave out rows that are dominated in MACs; a line says how many.
    """
    rows = table.front() if only_front else table.finished
    print_rows(table, rows, console)
    hidden = len(table.finished) - len(rows)
    if hidden:
        verb = "row scores" if hidden == 1 else "rows score"
        console.print(f"{hidden} more {verb} no better than a cheaper one.")
    if dropped := len(table.rows) - len(table.finished):
        verb = "row was" if dropped == 1 else "rows were"
        others = "others do as well or nearly; --full finishes all"
        console.print(f"{dropped} more {verb} dropped early: {others}.")
    chosen = Selection.of(table.meta)
    if chosen.suffix:
        console.print(f"Chosen on {chosen}.")


def print_rows(table: QueryTable, rows: Sequence[Row], console: Console) -> None:
    """Print some rows of a table to a terminal, the most costly one first."""
    columns, lines = table_cells(table, rows)
    shown = Table(header_style="bold")
    for index, column in enumerate(columns):
        shown.add_column(Text(column), justify="right" if index else "left")
    for line in lines:
        shown.add_row(*line)
    console.print(shown)


def table_cells(table: QueryTable, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Names of columns and the texts of some rows, the most costly row first.

    Args:
        table: Whose names of scores and splits are shown.
        rows: Of it.
    """
    ordered = sorted(rows, key=lambda row: (row.macs, row.score), reverse=True)
    columns: dict[str, Callable[[Row], str]] = {
        "sub-network": lambda row: str(row.subnet),
        **{_heading(table, split): _score_column(table, split) for split in _splits(table, rows)},
        "M MACs": lambda row: _millions(row.macs),
        "M params": lambda row: _millions(row.params),
        "found by": lambda row: row.found_by or "",
        "ms (median)": lambda row: "" if row.latency_ms is None else in_digits(row.latency_ms, 3),
    }
    filled = {
        name: texts
        for name, text in columns.items()
        if any(texts := [text(row) for row in ordered])
    }
    return list(filled), [list(line) for line in zip(*filled.values(), strict=True)]


def _splits(table: QueryTable, rows: Iterable[Row]) -> list[str]:
    """The splits that rows have scores on, the one to quote first."""
    found = {score.split for row in rows for score in table.scores(row)}
    return sorted(found, key=lambda split: split != TEST)


def _heading(table: QueryTable, split: str) -> str:
    return f"{table.score_name} on {split}" + (" (chose)" if split == table.select_split else "")


def shown_split(table: QueryTable, cost: Literal["macs", "latency_ms"]) -> str:
    """The split of a picture: test if all of the front has scores on it, else what chose."""
    is_tested = all(row.test_score is not None for row in table.front(cost))
    return TEST if is_tested else table.select_split


def score_on(table: QueryTable, row: Row, split: str) -> SplitScore | None:
    """A row's score on a split, None if it has none there."""
    return next((score for score in table.scores(row) if score.split == split), None)


def _score_column(table: QueryTable, split: str) -> Callable[[Row], str]:
    return lambda row: _measured(score_on(table, row, split))


def _measured(score: SplitScore | None) -> str:
    if score is None:
        return ""
    error = "" if score.standard_error is None else f" ± {score.standard_error:.1f}"
    return f"{score.value:.1f}{error}"


def _millions(count: float) -> str:
    """Three digits, and all of them from 1000 million on."""
    return in_digits(count / 1e6, 3)


def _cost(row: Row, cost: str) -> float:
    return row.macs / 1e6 if cost == "macs" else float(getattr(row, cost))


def _label_ends(
    axes: Axes, front: Sequence[Row], points: Mapping[Subnet, SplitScore], cost: str
) -> None:
    """Name the cheapest and the best sub-network; the colours tell the others' resolution."""
    below, above = ((8, -4), "left", "top"), ((-8, 6), "right", "bottom")
    for row, (offset, horizontal, vertical) in {
        front[0]: below,
        front[-1]: above,
    }.items():
        axes.annotate(
            str(row.subnet),
            (_cost(row, cost), points[row.subnet].value),
            xytext=offset,
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            fontsize=9,
            color=_INK,
        )


def _style(axes: Axes, rows: Iterable[Row], cost: str) -> None:
    costs = [_cost(row, cost) for row in rows]
    if max(costs) / min(costs) >= _LOG_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(
        "cost: millions of multiply-adds" if cost == "macs" else "cost: median latency, ms"
    )
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", fontsize=9)
