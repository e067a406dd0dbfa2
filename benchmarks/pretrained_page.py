"""The tables of the page on pretrained networks, from the files of the runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.pretrained_runs import (
    CRITERIA,
    RATES,
    SEEDS,
    STEPS,
    alone,
    elastic_run,
    from_scratch,
    rate_of,
    select_score,
)
from benchmarks.spread import mean_and_interval
from benchmarks.study_single import BUDGETS
from benchmarks.study_store import Store
from benchmarks.study_values import StudyRun

START = "<!-- python benchmarks/pretrained.py --page writes from here -->"
END = "<!-- to here -->"
NAMES = {"none": "unsorted", "l1": "sorted by `l1`", "l2": "`l2`", "taylor": "`taylor`"}


def write_tables(store: Store, page: Path) -> None:
    """Write the tables between the page's marks.

    Args:
        store: Keeps results.
        page: Has a line `START` and a line `END`.
    """
    before, _, rest = page.read_text().partition(START)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{START}\n\n{tables(store)}\n{END}{after}")


def tables(store: Store) -> str:
    """What was found, and how the learning rates were chosen."""
    return "\n".join([*_scores(store), "", *_gains(store), "", *_rates(store), ""])


def _scores(store: Store) -> list[str]:
    titles = " | ".join(f"{width:g}x{side}" for width, side in BUDGETS)
    rows: list[tuple[str, str, StudyRun, int]] = [
        ("the network alone", "", alone(), 1),
        *((NAMES[c], "0", elastic_run(c, 0), 0) for c in CRITERIA),
    ]
    for share, steps in STEPS.items():
        for criterion in CRITERIA if steps else ():
            rate = rate_of(store, criterion, steps)
            if rate is not None:
                run = elastic_run(criterion, steps, rate)
                rows.append((f"{NAMES[criterion]}, rate {rate:g}", f"{share}", run, 0))
    rows.append(("MutualNet from scratch", "100", from_scratch(), 0))
    lines = [f"| | training, % | {titles} | mean | seeds |", "|---|---:|" + "---:|" * 6]
    counts = []
    for title, percent, run, network in rows:
        found = {s: v for s, v in store.seeds_of(run).items() if s in SEEDS}
        if not found:
            continue
        counts.append(len(found))
        cells = [_cell(found, [config], network) for config in BUDGETS]
        mean = _cell(found, BUDGETS, network)
        lines.append(f"| {title} | {percent} | {' | '.join(cells)} | {mean} | {len(found)} |")
    missing = "" if min(counts, default=0) == len(SEEDS) else _UNFINISHED
    return [*(_HEAD + missing).splitlines(), "", *lines]


_LENGTHS = ", ".join(str(steps) for steps in STEPS.values() if steps)
_HEAD = f"""\
Test accuracy in percent, mean and 95 % interval over seeds, at width x pixels. *Training* is in
percent of MutualNet's 1,350 steps ({_LENGTHS}); a step costs the same in both."""
_UNFINISHED = """
Rows of fewer seeds are unfinished: `python benchmarks/pretrained.py --data DIR` trains the rest."""


def _cell(
    found: dict[int, dict[str, Any]], configs: Sequence[tuple[float, int]], network: int
) -> str:
    """Mean over seeds of the mean over configurations; empty where they were not scored."""
    values = []
    for result in found.values():
        scores = {
            (r["width"], r["side"]): r["test"] for r in result["rows"] if r["network"] == network
        }
        if not all(config in scores for config in configs):
            return ""
        values.append(statistics.mean(scores[config] for config in configs))
    return mean_and_interval(values)


def _gains(store: Store) -> list[str]:
    """Differences of the mean score, paired by seed."""
    lines = [
        "Sorted by `l1`, mean of the four, points of difference by seed (number of seeds):",
        "",
        "| training, % | to unsorted | to MutualNet from scratch |",
        "|---:|---:|---:|",
    ]
    scratch = _means(store, from_scratch())
    for share, steps in STEPS.items():
        runs = {}
        for criterion in ("l1", "none"):
            rate = rate_of(store, criterion, steps) if steps else RATES[0]
            runs[criterion] = (
                {} if rate is None else _means(store, elastic_run(criterion, steps, rate))
            )
        if runs["l1"]:
            cells = [_difference(runs["l1"], other) for other in (runs["none"], scratch)]
            lines.append(f"| {share} | {' | '.join(cells)} |")
    return lines


def _difference(ours: dict[int, float], theirs: dict[int, float]) -> str:
    """Mean, interval and number of the seeds that both have; empty if there are none."""
    values = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return f"{mean_and_interval(values)} ({len(values)})" if values else ""


def _means(store: Store, run: StudyRun) -> dict[int, float]:
    """Mean test score of the configurations, by seed."""
    return {
        seed: statistics.mean(
            row["test"] for row in found["rows"] if (row["width"], row["side"]) in BUDGETS
        )
        for seed, found in store.seeds_of(run).items()
        if seed in SEEDS
    }


def _rates(store: Store) -> list[str]:
    """Select scores of every learning rate that was tried."""
    titles = " | ".join(f"rate {rate:g}" for rate in RATES)
    lines = [
        f"The learning rates were chosen on the select split of seed {SEEDS[0]}, mean of the four;",
        "`l2` and `taylor` take that of `l1`:",
        "",
        f"| | training, % | {titles} |",
        "|---|---:|" + "---:|" * len(RATES),
    ]
    for criterion in ("none", "l1"):
        for percent, steps in STEPS.items():
            if steps:
                scores = [select_score(store, criterion, steps, rate) for rate in RATES]
                cells = ["" if score is None else f"{score:.1f}" for score in scores]
                lines.append(f"| {NAMES[criterion]} | {percent} | {' | '.join(cells)} |")
    return lines
