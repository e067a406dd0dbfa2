"""Paired timing: two things in turn, the ratio pair by pair, its median and interval."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Time of one thing over that of another."""

    median: float
    low: float
    high: float
    """95 % bootstrap interval of the median."""
    num_pairs: int
    seconds: float
    """Median time of the first thing."""
    other_seconds: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def seconds_of(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def paired(
    ours: Callable[[], object], other: Callable[[], object], *, pairs: int = 11, warmup: int = 2
) -> Ratio:
    """Time two things in turn, the order swapped from pair to pair."""
    for _ in range(warmup):
        ours()
        other()
    mine, theirs = [], []
    for number in range(pairs):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        times = [0.0, 0.0]
        for which in order:
            times[which] = seconds_of((ours, other)[which])
        mine.append(times[0])
        theirs.append(times[1])
    return ratio_of(mine, theirs)


def ratio_of(mine: list[float], theirs: list[float]) -> Ratio:
    """Summarise measured pairs."""
    ratios = np.asarray(mine) / np.asarray(theirs)
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return Ratio(
        median=float(np.median(ratios)),
        low=float(low),
        high=float(high),
        num_pairs=len(ratios),
        seconds=float(np.median(mine)),
        other_seconds=float(np.median(theirs)),
    )
