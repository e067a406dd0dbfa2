"""A race between candidates: scored on a growing share of some images, the hopeless ones leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Measure = Callable[[Sequence[int], int, int], np.ndarray]
"""What candidates (M numbers) get for each image from `start` to before `stop`: (M, stop - start),
higher is better. The candidate's score is the mean over images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exit:
    """How one candidate left a race."""

    beaten_by: int
    """A candidate that costs no more on the first axis and scored better."""
    score: float
    """Mean over the images that it ran on."""
    standard_error: float
    """Of that mean."""
    num_images: int
    """Images that it ran on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceResult:
    """Who is left after a race, and how the others left."""

    survivors: tuple[int, ...]
    """Candidates by number, ascending: the front and its neighbours."""
    exits: dict[int, Exit]
    """All others."""


def beaten_by(values: np.ndarray, costs: np.ndarray, *, num_errors: float) -> dict[int, int]:
    """Candidates that another one beats beyond the doubt of its sample.

    Whatever axis a budget may be on, someone who costs no more there has a mean that is higher by
    more than `num_errors` standard errors of the difference; it need not be the same one for every
    axis. All ran on the same images, so that the difference is taken image by image: what is hard
    for both adds no doubt.

    Args:
        values: (M, N), what each of M candidates got for each of N images.
        costs: (M, A), on each of A axes.
        num_errors: Standard errors, >= 0.

    Returns:
        For each beaten candidate one that beats it on the first axis: of several the one with the
        highest mean.
    """
    num_images = values.shape[1]
    means = values.mean(1)
    # The variance of every difference at once, from the covariances.
    centred = values - means[:, None]
    covariance = centred @ centred.T / max(1, num_images - 1)
    own = np.diag(covariance)
    variance = np.clip(own[:, None] + own[None, :] - 2 * covariance, 0, None)
    error = np.sqrt(variance / num_images)
    gap = means[None, :] - means[:, None]  # of column over row
    # Rounding must not make a difference of two that got the same everywhere.
    is_better = gap > num_errors * error + 1e-9 * max(1.0, float(np.abs(values).max(initial=0)))
    is_no_dearer = costs[None, :, :] <= costs[:, None, :]
    beats = is_better[:, :, None] & is_no_dearer  # (beaten, by whom, on which axis)
    ranked = np.where(beats[:, :, 0], means[None, :], -np.inf)
    return {int(i): int(ranked[i].argmax()) for i in np.flatnonzero(beats.any(1).all(1))}


def race(
    measure: Measure,
    costs: np.ndarray,
    ends: Sequence[int],
    *,
    num_errors: float = 2.5,
    last_num_errors: float = 1.0,
) -> RaceResult:
    """Run candidates on more and more of the same images, and drop those that another one beats.

    In each round but the last a candidate leaves if it is beaten by more than `num_errors` standard
    errors on every axis of cost. The last round keeps the fronts and their neighbours: those that
    nobody who costs no more leads by more than `last_num_errors`, on one axis at least. What is
    best for its cost leaves only by bad luck, and hardly ever to one that is much worse.

    Args:
        measure: Runs candidates on some images.
        costs: (M, A), at least one candidate and one axis.
        ends: Images after each round, ascending.
        num_errors: Standard errors of the paired difference, > 0.
        last_num_errors: The same after the last round, > 0.

    Raises:
        ValueError: If there is no candidate, no round, or the rounds do not grow.

    Source: Maron & Moore 1993, "Hoeffding races".
    Differs: differences are paired and their errors estimated, and there is
        no single winner, but a front of scores over each axis of cost.
    """
    if costs.ndim != 2 or not costs.size:
        raise ValueError(f"costs must be (candidates, axes), at least 1 x 1, got {costs.shape}")
    if not ends or any(b <= a for a, b in zip([0, *ends], ends, strict=False)):
        raise ValueError(f"ends must be ascending and > 0, got {list(ends)}")
    alive = list(range(len(costs)))
    seen = np.zeros((len(costs), 0))
    exits: dict[int, Exit] = {}
    start = 0
    for number, stop in enumerate(ends):
        seen = np.concatenate([seen, measure(alive, start, stop)], axis=1)
        is_last = number == len(ends) - 1
        limit = last_num_errors if is_last else num_errors
        beaten = beaten_by(seen, costs[alive], num_errors=limit)
        for place, winner in beaten.items():
            exits[alive[place]] = Exit(
                beaten_by=alive[winner],
                score=float(seen[place].mean()),
                standard_error=float(seen[place].std() / np.sqrt(stop)),
                num_images=stop,
            )
        kept = [place for place in range(len(alive)) if place not in beaten]
        alive, seen, start = [alive[place] for place in kept], seen[kept], stop
    return RaceResult(survivors=tuple(alive), exits=exits)
