"""A run as one HTML file that asks for nothing else: frontier, table, losses, settings."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mutualnet.image_paths import as_typed, shown
from mutualnet.numbers import in_digits
from mutualnet.report import score_on, shown_split, table_cells
from mutualnet.run_directory import RunRecord
from mutualnet.svg_chart import Axis, Chart, escaped, legend
from mutualnet.table import QueryTable, Row

Cost = Literal["macs", "latency_ms"]
_COSTS: dict[Cost, str] = {
    "macs": "millions of multiply-adds",
    "latency_ms": "median latency, ms",
}
_UNITS: dict[Cost, tuple[tuple[str, float], ...]] = {
    "macs": (("M", 1e6), ("K", 1e3)),
    "latency_ms": (("ms", 1.0),),
}
_SCORE = re.compile(r"(select|train|test)_(\d+_)?(largest|smallest)")
"""Columns of the log that are scores on the way."""
_NO_LOSS = re.compile(r"epoch|step|seconds|images_per_s|watch_seconds|lr.*")
_LEARNER = re.compile(r"[a-z]+(_\d+)?")
"""How the name of a loss begins: its kind, and the number of the network that learned from it."""
_MOST_LINES = 8
"""More losses than these are summed by kind and network."""
_APART = ("class_names", "preprocessing")
"""Long values of the record, which are folded up."""


def report_page(record: RunRecord, epochs: Sequence[Mapping[str, float]]) -> str:
    """The page as HTML text. It holds its style and script, and refers to nothing outside of it.

    Args:
        record: Of the run.
        epochs: Rows of its log, the first epoch first.
    """
    title = f"{record.recipe.name}: {shown(record.path.name or record.path)}"
    parts = [
        f"<h1>{escaped(title)}</h1>",
        f"<p>{escaped(record.recipe.description)}</p>" if record.recipe.description else "",
        _table_part(record),
        _training_part(epochs),
        _section("Settings", f"<pre>{escaped(record.recipe_text)}</pre>"),
        _section("Environment", _environment(record)),
    ]
    return _PAGE.format(title=escaped(title), style=_STYLE, body="\n".join(parts), script=_SCRIPT)


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escaped(title)}</h2>\n{content}\n</section>"


def _table_part(record: RunRecord) -> str:
    table, place = record.table, as_typed(record.path)
    if table is None:
        how = f"<code>mutualnet table {escaped(place)}</code>"
        return _section("Frontier", f"<p>This run has no query table yet. Make it: {how}</p>")
    costs: list[Cost] = ["macs"]
    if all(row.latency_ms is not None for row in table.finished):
        costs.append("latency_ms")
    charts = "\n".join(_frontier(table, cost, place) for cost in costs)
    hint = (
        f"<p>Filled and joined: best for their cost on {escaped(table.select_split)}. The pointer "
        "on a point tells about it, a click shows the command that uses it.</p>"
        '<p id="use" aria-live="polite"></p>'
    )
    return _section("Frontier", f"{charts}\n{hint}") + _section("Table", _rows(table))


def _frontier(table: QueryTable, cost: Cost, place: str) -> str:
    split = shown_split(table, cost)
    front = table.front(cost)
    on_front = {row.subnet for row in front}
    drawn = [(row, score) for row in table.finished if (score := score_on(table, row, split))]
    ends = [score.value for _, score in drawn]
    for row in front:  # whose error bars are drawn
        if score := score_on(table, row, split):
            error = score.standard_error or 0.0
            ends += [score.value - error, score.value + error]
    score_axis = Axis.around(ends, f"{table.score_name} on {split}")
    axis = Axis.around((_cost(row, cost) for row, _ in drawn), _COSTS[cost], may_be_log=True)
    chart = Chart(axis, score_axis, f"{table.score_name} over {_COSTS[cost]}")
    found = {row.subnet: score for row, score in drawn}
    chart.line([(_cost(row, cost), found[row.subnet].value) for row in front])
    resolutions = sorted({row.subnet.resolution for row, _ in drawn}, reverse=True)
    # The front last, on top of the others.
    for row, score in sorted(drawn, key=lambda pair: pair[0].subnet in on_front):
        strong, index = row.subnet in on_front, resolutions.index(row.subnet.resolution)
        if strong and score.standard_error:
            chart.error_bar(_cost(row, cost), score.value, score.standard_error, index)
        chart.point(
            _cost(row, cost),
            score.value,
            index,
            strong=strong,
            about=_about(table, row),
            use=_use(table, row, cost, place),
        )
    return f"{chart.text()}\n{legend([f'{r} px' for r in resolutions], are_lines=False)}"


def _cost(row: Row, cost: Cost) -> float:
    value: float = getattr(row, cost)
    return value / 1e6 if cost == "macs" else value


def _about(table: QueryTable, row: Row) -> str:
    scores = ", ".join(map(str, table.scores(row)))
    time = "" if row.latency_ms is None else f", {in_digits(row.latency_ms, 3)} ms"
    macs, params = in_digits(row.macs / 1e6, 4), in_digits(row.params / 1e6, 3)
    return f"{row.subnet}: {scores}; {macs} M multiply-adds, {params} M parameters{time}"


def _use(table: QueryTable, row: Row, cost: Cost, place: str) -> str:
    """The command that uses a row: by a budget that chooses it, or where none does by its name."""
    least = getattr(row, cost)
    for unit, size in _UNITS[cost]:
        for digits in (2, 3, 4, 6):
            amount = _rounded_up(least / size, digits)
            if table.best(**{cost: amount * size}) == row:
                return f"mutualnet predict {place} IMAGE --budget {amount:.9g}{unit}"
    return f"mutualnet export {place} --configs {shlex.quote(str(row.subnet))}"


def _rounded_up(value: float, digits: int) -> float:
    """The next number with some significant digits, as it is when it was written and read."""
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - digits)
    return float(f"{math.ceil(value / unit) * unit:.9g}")


def _rows(table: QueryTable) -> str:
    columns, lines = table_cells(table, table.finished)
    front = {str(row.subnet) for row in table.front()}
    head = "".join(f"<th>{escaped(column)}</th>" for column in columns)
    body = "\n".join(
        f"<tr{' class=front' if line[0] in front else ''}>"
        + "".join(f"<td>{escaped(cell)}</td>" for cell in line)
        + "</tr>"
        for line in lines
    )
    dropped = len(table.rows) - len(table.finished)
    more = f" {dropped} more were dropped early: others do as well or nearly." if dropped else ""
    return (
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n"
        f"<p>Bold: best for their multiply-adds.{more}</p>"
    )


def _training_part(epochs: Sequence[Mapping[str, float]]) -> str:
    if not epochs:
        return _section("Losses", "<p>This run has no log of its epochs.</p>")
    names = list(dict.fromkeys(name for row in epochs for name in row))
    scores = [name for name in names if _SCORE.fullmatch(name)]
    losses = [n for n in names if n not in scores and not _NO_LOSS.fullmatch(n)]
    series = {name: [name] for name in losses}
    summed = ""
    if len(losses) > _MOST_LINES:
        series, summed = {}, ", sums by kind and network"
        for name in losses:
            learner = _LEARNER.match(name)
            series.setdefault(learner[0] if learner else name, []).append(name)
    parts = _section("Losses", _epochs_chart(epochs, series, f"loss, nats{summed}", is_loss=True))
    if scores:
        parts += _section(
            "Scores while training",
            _epochs_chart(epochs, {name: [name] for name in scores}, "score", is_loss=False),
        )
    return parts


def _epochs_chart(
    epochs: Sequence[Mapping[str, float]],
    series: Mapping[str, Sequence[str]],
    label: str,
    *,
    is_loss: bool,
) -> str:
    lines = {}
    for title, names in series.items():
        points = [
            (row["epoch"], sum(row[name] for name in names))
            for row in epochs
            if all(math.isfinite(row.get(name, math.nan)) for name in (*names, "epoch"))
        ]
        if points:
            lines[title] = points
    if not lines:
        return "<p>The log of its epochs holds no numbers to draw.</p>"
    values = [y for points in lines.values() for _, y in points]
    numbers = [x for points in lines.values() for x, _ in points]
    chart = Chart(
        Axis.around(numbers, "epoch", is_whole=True),
        Axis.around(values, label, may_be_log=is_loss),
        f"{label} over epochs",
    )
    for index, (title, points) in enumerate(lines.items()):
        chart.line(points, index)
        if len(points) <= 30:
            for x, y in points:
                chart.point(x, y, index, about=f"{title}, epoch {x:g}: {y:.4g}")
    return f"{chart.text()}\n{legend(list(lines), are_lines=True)}"


def _environment(record: RunRecord) -> str:
    values: dict[str, Any] = {k: v for k, v in record.info.items() if k not in _APART}
    if record.table is not None:
        values |= {f"table: {key}": value for key, value in record.table.meta.items()}
    lines = "\n".join(
        f"<tr><th>{escaped(name)}</th><td>{escaped(_plain(value))}</td></tr>"
        for name, value in values.items()
    )
    folded = "\n".join(
        f"<details><summary>{escaped(name)}</summary><pre>"
        f"{escaped(json.dumps(record.info[name], indent=1, ensure_ascii=False))}</pre></details>"
        for name in _APART
        if name in record.info
    )
    return f'<table class="plain"><tbody>\n{lines}\n</tbody></table>\n{folded}'


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
{body}
</main>
<div id="about" role="tooltip" hidden></div>
<script>
{script}
</script>
</body>
</html>
"""

_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem 1rem }
main { max-width: 60rem; margin: auto }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
h1, td, th, code, #use { overflow-wrap: anywhere }
section > svg { width: 100%; height: auto; display: block }
svg text { font-size: 13px; fill: #444 } svg .grid { stroke: #e4e4e4 }
.point { cursor: pointer } .point:focus { outline: 2px solid #222; outline-offset: 2px }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0 1.4rem; padding: 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .2rem .8rem; border-bottom: 1px solid #e4e4e4; text-align: right }
td:first-child, th:first-child, .plain td, .plain th { text-align: left; vertical-align: top }
.front { font-weight: 600 }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .85rem }
#use { min-height: 1.5em; font-family: monospace; background: #f6f6f6; padding: .4rem .8rem }
#about { position: fixed; background: #222; color: #fff; padding: .3rem .6rem; font-size: .85rem;
 border-radius: 4px; pointer-events: none; max-width: 24rem }"""

_SCRIPT = """\
const about = document.getElementById("about"), use = document.getElementById("use");
for (const point of document.querySelectorAll(".point")) {
  point.querySelector("title").remove();  // else it shows beside ours
  point.setAttribute("aria-label", point.dataset.about);
  const show = () => {
    const place = point.getBoundingClientRect();
    about.textContent = point.dataset.about;
    about.hidden = false;
    about.style.left = Math.min(place.right + 8, innerWidth - about.offsetWidth - 8) + "px";
    about.style.top = Math.max(8, place.top - about.offsetHeight - 8) + "px";
  };
  const tell = () => { if (use && point.dataset.use) use.textContent = point.dataset.use; };
  point.addEventListener("pointerenter", show);
  point.addEventListener("focus", show);
  point.addEventListener("pointerleave", () => { about.hidden = true; });
  point.addEventListener("blur", () => { about.hidden = true; });
  point.addEventListener("click", tell);
  point.addEventListener("keydown", event => { if (event.key === "Enter") tell(); });
}"""
