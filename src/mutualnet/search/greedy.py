"""Greedy slimming: from the largest to the smallest, always by the step that costs least."""

from __future__ import annotations

from mutualnet.search.choices import Point
from mutualnet.search.scoring import Trials


def slim(trials: Trials, *, stop_at: float = 0.0) -> None:
    """Make the largest sub-network smaller step by step; whatever is tried stays in `trials`.

    At each step every axis is tried one level lower, and the one is lowered that loses the least
    score for each multiply-add that it saves.

    Args:
        trials: Tries points.
        stop_at: Multiply-adds below which nothing is wanted any more.

    Raises:
        NoEvaluationsLeftError: If it may try no more.

    Source: Yu & Huang 2019, https://arxiv.org/abs/1903.11728, section 3 (AutoSlim).
    Differs: the step is by score per multiply-add saved, not by score alone, since the axes
        differ in what they save; depth and resolution are axes too; a try has BN statistics of its
        own.
    """
    point: Point = (0,) * len(trials.choices.num_levels)
    (current,) = trials([point])
    while current.macs > stop_at:
        steps = [step for axis in range(len(point)) if (step := _lower(trials, point, axis))]
        if not steps:
            return
        found = trials(steps)
        costs = [(current.score - f.score) / (current.macs - f.macs) for f in found]
        best = min(range(len(steps)), key=lambda number: (costs[number], number))
        point, current = steps[best], found[best]


def _lower(trials: Trials, point: Point, axis: int) -> Point | None:
    """The next point down an axis that saves multiply-adds; None if there is none."""
    macs = trials.macs(point)
    for level in range(point[axis] + 1, trials.choices.num_levels[axis]):
        lower = (*point[:axis], level, *point[axis + 1 :])
        if trials.macs(lower) < macs:
            return lower
    return None
