"""Runs that make a trained network elastic, and the learning rates that they are tried with."""

from __future__ import annotations

import statistics

from benchmarks.study_scales import FEW_IMAGES
from benchmarks.study_single import BUDGETS, SIDES, elastic, full_alone
from benchmarks.study_store import Store
from benchmarks.study_values import StudyRun

SEEDS = (0, 1, 2)
CRITERIA = ("none", "l1", "l2", "taylor")
"""Words of `--sort-channels`."""
STEPS = {0: 0, 1: 14, 3: 41, 10: 135}
"""Steps by their share in percent of MutualNet's 1,350; a step is the same four passes in both."""
RATES = (0.005, 0.02, 0.08)
"""Learning rates that are tried; training from scratch begins at 0.1."""


def alone() -> StudyRun:
    """Two networks trained at full width alone; the second one becomes elastic."""
    return full_alone(FEW_IMAGES)


def from_scratch() -> StudyRun:
    """MutualNet, as long as the network alone."""
    return elastic(FEW_IMAGES, "mutualnet")


def elastic_run(criterion: str, steps: int, rate: float = RATES[0]) -> StudyRun:
    """The network that was trained alone, sorted or not, after some steps of MutualNet.

    Args:
        criterion: A word of `--sort-channels`.
        steps: 0 for none.
        rate: Highest learning rate, which falls to 0 by a cosine.
    """
    tuning = (f"optimizer.lr={rate:g}",) if steps else ()
    return FEW_IMAGES.run(
        f"model.sort_channels={criterion}",
        *tuning,
        method="mutualnet",
        width_range=(0.25, 1.0),
        resolutions=SIDES,
        init=alone(),
        limit_steps=steps,
        configs=BUDGETS,
    )


def select_score(store: Store, criterion: str, steps: int, rate: float) -> float | None:
    """Mean select score of the configurations of the first seed; None if it has not been run."""
    found = store.seeds_of(elastic_run(criterion, steps, rate)).get(SEEDS[0])
    return None if found is None else statistics.mean(row["select"] for row in found["rows"])


def rate_of(store: Store, criterion: str, steps: int) -> float | None:
    """The rate that the first seed's select split prefers: l1's for all criteria, or none's own.

    Returns:
        The best one that has been tried; None before that.
    """
    tried = criterion if criterion == "none" else "l1"
    scores = {rate: select_score(store, tried, steps, rate) for rate in RATES}
    known = {rate: score for rate, score in scores.items() if score is not None}
    return max(known, key=lambda rate: known[rate], default=None)
