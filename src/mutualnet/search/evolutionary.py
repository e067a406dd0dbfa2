"""Evolutionary search: the best points within a budget are mutated and crossed, again and again."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from mutualnet.search.choices import Point
from mutualnet.search.scoring import Trials
from mutualnet.supernet import BankKey

_PARENTS = 0.25
"""Share of the population that has children."""
_MUTATION = 0.2
"""Probability with which an axis of a mutated point moves."""
_MOST_DRAWS = 200
"""Draws for one child before the budget is taken to have no more."""


def evolve(
    trials: Trials,
    macs: float,
    rng: np.random.Generator,
    *,
    evaluations: int,
    population: int = 16,
) -> bool:
    """Search within a budget; whatever is tried stays in `trials`.

    The first population is what has one width for all stages and fits, the dearest first, filled
    up with mutants and crossings of these; each later one has as many mutants of the best that were
    tried within the budget, a quarter of a population, as crossings of two of them.

    Args:
        trials: Tries points.
        macs: Most multiply-adds of a point.
        rng: Source of every random choice.
        evaluations: Networks that may be tried for this budget.
        population: Points of a round.

    Returns:
        Whether it ended because it found nothing new within the budget, and not because it had
        tried as many as it may.

    Raises:
        NoEvaluationsLeftError: If nothing may be tried any more.

    Source: Cai et al. 2020, https://arxiv.org/abs/1908.09791, section 3.4 (the search; its
        predictor of accuracy is left out).
    """
    first = len(trials.tried)
    uniform = sorted(
        (p for p in trials.choices.uniform() if trials.macs(p) <= macs), key=trials.macs
    )[::-1]
    if not uniform:
        return True
    points = uniform[: population // 2]
    scores: dict[Point, float] = {}
    children: list[Point] = points + _children(trials, points, macs, rng, population - len(points))
    while children:
        left = evaluations - (len(trials.tried) - first)
        fresh = [p for p in children if trials.key(p) not in trials.tried]
        chosen = [p for p in children if trials.key(p) in trials.tried] + fresh[:left]
        for point, found in zip(chosen, trials(chosen), strict=True):
            scores[point] = found.score
        if len(trials.tried) - first >= evaluations:
            return False
        best = sorted(scores, key=lambda p: (-scores[p], trials.macs(p), p))
        parents = best[: max(2, int(_PARENTS * population))]
        known = {trials.key(point) for point in scores}
        children = _children(trials, parents, macs, rng, population, known)
    return True


def _children(
    trials: Trials,
    parents: list[Point],
    macs: float,
    rng: np.random.Generator,
    count: int,
    known: Collection[BankKey] = frozenset(),
) -> list[Point]:
    """New points within the budget, fewer if they are hard to find.

    Mutants and crossings are drawn in turn, so that where one kind gives nothing new, as crossings
    of parents that are nearly alike, the other still does.

    Args:
        trials: Knows what points cost.
        parents: At least one.
        macs: The budget.
        rng: Source of every random choice.
        count: How many.
        known: Networks that are not new. Many points may be one network, as where groups are small.
    """
    found: dict[BankKey, Point] = {}
    for number in range(_MOST_DRAWS * count):
        if len(found) == count:
            break
        one, other = (parents[int(rng.integers(len(parents)))] for _ in range(2))
        child = _mutant(one, trials, rng) if number % 2 == 0 else _crossing(one, other, rng)
        key = trials.key(child)
        if key not in known and key not in found and trials.macs(child) <= macs:
            found[key] = child
    return list(found.values())


def _mutant(point: Point, trials: Trials, rng: np.random.Generator) -> Point:
    levels = trials.choices.num_levels
    moves = rng.random(len(point)) < _MUTATION
    drawn = [int(rng.integers(count)) for count in levels]
    return tuple(new if move else old for old, new, move in zip(point, drawn, moves, strict=True))


def _crossing(one: Point, other: Point, rng: np.random.Generator) -> Point:
    from_one = rng.random(len(one)) < 0.5
    return tuple(a if first else b for a, b, first in zip(one, other, from_one, strict=True))
