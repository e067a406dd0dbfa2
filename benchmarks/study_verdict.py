"""Whether a claim holds: differences paired by seed, their 95 % t interval, one word."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.spread import half_interval
from benchmarks.study_values import Claim, Config, Entry

HOLDS, HOLDS_NOT, UNDECIDED, UNFINISHED = "holds", "does not", "not decided", "unfinished"

Rows = Sequence[Mapping[str, Any]]
"""Scored configurations of a run: network, width, side, macs, select and test."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the seeds of a claim say."""

    word: str
    mean: float | None
    """Points of accuracy by which ours is ahead; None without a seed."""
    half: float
    """Half of the 95 % interval; 0 with fewer than two seeds."""
    num_seeds: int


def judge(values: Sequence[float], *, needed: int, margin: float = 0.0) -> Verdict:
    """Decide by the mean of some differences.

    Args:
        values: A difference for each seed, in points.
        needed: Seeds without which nothing is decided, >= 2.
        margin: What the mean must exceed.
    """
    if needed < 2:
        raise ValueError(f"needed must be >= 2, which an interval takes, got {needed}")
    count = len(values)
    if count == 0:
        return Verdict(word=UNFINISHED, mean=None, half=0.0, num_seeds=0)
    mean, half = statistics.mean(values), half_interval(list(values))
    if count < needed:
        word = UNFINISHED
    elif mean - half > margin:
        word = HOLDS
    elif mean + half < margin:
        word = HOLDS_NOT
    else:
        word = UNDECIDED
    return Verdict(word=word, mean=mean, half=half, num_seeds=count)


def best_within(rows: Rows, budget: int, entry: Entry) -> float | None:
    """Test score of what the select split prefers within a budget; the mean over networks.

    Args:
        rows: Of all runs of the entry, for one seed.
        budget: Most multiply-adds.
        entry: Says what may be picked.

    Returns:
        Percent, or None if nothing fits.
    """
    scores = []
    for network in sorted({row["network"] for row in rows}):
        fitting = [
            row
            for row in rows
            if row["network"] == network
            and row["macs"] <= budget
            and entry.allows((row["width"], row["side"]))
        ]
        if fitting:
            scores.append(max(fitting, key=lambda row: row["select"])["test"])
    return statistics.mean(scores) if scores else None


def budget_of(config: Config, rows: Rows) -> int | None:
    """Multiply-adds of a configuration, in the largest of the networks that have it."""
    found = [row["macs"] for row in rows if (row["width"], row["side"]) == config]
    return max(found, default=None)


def differences(
    claim: Claim, ours: Mapping[int, Rows], theirs: Mapping[int, Rows]
) -> dict[int, list[tuple[float, float]]]:
    """Scores of both methods at every budget, for every seed that both have.

    Args:
        claim: Says what may be picked, and the budgets.
        ours: Rows by seed.
        theirs: Rows by seed.
    """
    paired: dict[int, list[tuple[float, float]]] = {}
    for seed in sorted(ours.keys() & theirs.keys()):
        pairs = []
        for config in claim.budgets:
            budget = budget_of(config, [*theirs[seed], *ours[seed]])
            assert budget is not None, f"{claim.name}: nothing is scored at {config}"
            mine, other = (
                best_within(rows[seed], budget, entry)
                for rows, entry in ((ours, claim.ours), (theirs, claim.theirs))
            )
            assert mine is not None and other is not None, f"{claim.name}: nothing fits {config}"
            pairs.append((mine, other))
        paired[seed] = pairs
    return paired
