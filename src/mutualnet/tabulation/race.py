"""A race between candidates: scored on a growing share of some images, the needless ones leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Measure = Callable[[Sequence[int], int, int], np.ndarray]
"""What candidates (M numbers) get for each image from `start` to before `stop`: (M, stop - start),
higher is better. The candidate's score is the mean over images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How one candidate came out of a race."""

    score: float
    """Mean over the images that it ran on."""
    standard_error: float
    """Of that mean."""
    num_images: int
    """Images that it ran on."""
    covered_by: int | None = None
    """None if it is left at the end. Otherwise one that was when this one had to leave, and that
    costs no more on the first axis."""


def covered_by(
    values: np.ndarray, costs: np.ndarray, *, num_errors: float, tolerance: float = 0.0
) -> dict[int, int]:
    """Candidates that a few others can stand in for, within any budget on any one axis.

    One covers another on an axis if it costs no more there, and the other's lead, taken at its mean
    plus `num_errors` standard errors, is at most `tolerance`. All ran on the same images, so that
    the difference is taken image by image: what is hard for both adds no doubt, but one image more,
    on which they differ by as much as values do, always remains possible. Those who stay
    cover all candidates on every axis; it need not be the same one for every axis. They are found
    greedily: who covers most for its cost comes first, so that of equals the cheap ones stay, and
    nobody is covered by one that leaves.

    Args:
        values: (M, N), what each of M candidates got for each of N images.
        costs: (M, A), on each of A axes. The first, > 0, is what running a candidate takes.
        num_errors: Standard errors, >= 0.
        tolerance: In the unit of the values, >= 0.

    Returns:
        For each candidate that leaves one that stays and covers it on the first axis, of several
        the one with the highest mean.

    Source: Chvatal 1979, "A greedy heuristic for the set-covering problem".
    """
    num_candidates, num_images = values.shape
    means = values.mean(1)
    # The variance of every difference at once, from the covariances.
    centred = values - means[:, None]
    covariance = centred @ centred.T / max(1, num_images - 1)
    own = np.diag(covariance)
    variance = np.clip(own[:, None] + own[None, :] - 2 * covariance, 0, None)
    # Two that differ on few images or none yet may differ on the next one.
    variance += np.ptp(values) ** 2 / num_images
    lead = means[:, None] - means[None, :] + num_errors * np.sqrt(variance / num_images)
    # Rounding must not make a difference of two that got the same everywhere.
    rounding = 1e-9 * max(1.0, float(np.abs(values).max(initial=0)))
    is_close = lead <= tolerance + rounding
    np.fill_diagonal(is_close, True)
    is_no_dearer = costs[None, :, :] <= costs[:, None, :]  # (covered, by whom, axis)
    covers = is_close[:, :, None] & is_no_dearer
    kept = _greedy_cover(covers.transpose(0, 2, 1).reshape(-1, num_candidates), costs[:, 0])
    ranked = np.where(covers[:, :, 0] & kept[None, :], means[None, :], -np.inf)
    return {int(i): int(ranked[i].argmax()) for i in np.flatnonzero(~kept)}


def _greedy_cover(covers: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Choose columns of (E, M) until every row is true in one of them; (M,) whether chosen."""
    chosen = np.zeros(covers.shape[1], dtype=bool)
    missing = np.ones(len(covers), dtype=bool)
    gains = covers.sum(0).astype(float)
    while missing.any():
        # A price's root: by full prices the cheapest come first whatever they cover.
        best = int(np.argmax(gains / np.sqrt(prices)))
        new = covers[:, best] & missing
        gains -= covers[new].sum(0)
        missing &= ~new
        chosen[best] = True
    return chosen


def race(
    measure: Measure,
    costs: np.ndarray,
    stops: Sequence[int],
    *,
    num_errors: float = 3.0,
    tolerance: float = 0.4,
) -> tuple[Standing, ...]:
    """Run candidates on more and more of the same images; those that others stand in for leave.

    After each round those stay that cover all the others (`covered_by`): beyond doubt as long as
    there are images to come, by what was seen after the last one. Whoever is best within a budget
    on one axis of cost then has a stand-in within it that scores less by hardly more than the
    tolerance.

    Args:
        measure: Runs candidates on some images.
        costs: (M, A), at least one candidate and one axis. The first is > 0.
        stops: Images that have been run after each round, ascending; the last one is all of them.
        num_errors: Standard errors of a paired difference that a candidate is granted in doubt,
            >= 0.
        tolerance: How much less than a candidate its stand-in may score, >= 0, in standard errors
            of a score on all images.

    Returns:
        M standings.

    Raises:
        ValueError: If there is no candidate, no round, or the rounds do not grow.

    Source: Maron & Moore 1993, "Hoeffding races".
    Differs: differences are paired and their errors estimated, and there is no single winner, but a
        front of scores over each axis of cost, thinned by a tolerance.
    """
    if costs.ndim != 2 or not costs.size:
        raise ValueError(f"costs must be (candidates, axes), at least 1 x 1, got {costs.shape}")
    if not stops or any(b <= a for a, b in zip([0, *stops], stops, strict=False)):
        raise ValueError(f"stops must be ascending and > 0, got {list(stops)}")
    alive = list(range(len(costs)))
    seen = np.zeros((len(costs), 0))
    standings: dict[int, Standing] = {}
    start = 0
    for stop in stops:
        seen = np.concatenate([seen, measure(alive, start, stop)], axis=1)
        start = stop
        spreads = seen.std(1)
        leaving = covered_by(
            seen,
            costs[alive],
            num_errors=num_errors if stop < stops[-1] else 0.0,
            tolerance=tolerance * float(spreads.mean()) / math.sqrt(stops[-1]),
        )
        for place, candidate in enumerate(alive):
            standings[candidate] = Standing(
                score=float(seen[place].mean()),
                standard_error=float(spreads[place]) / math.sqrt(stop),
                num_images=stop,
                covered_by=alive[leaving[place]] if place in leaving else None,
            )
        kept = [place for place in range(len(alive)) if place not in leaving]
        alive, seen = [alive[place] for place in kept], seen[kept]
    return tuple(standings[candidate] for candidate in range(len(costs)))
