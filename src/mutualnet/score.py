"""How good a network is on some samples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """How good a network is on some samples."""

    value: float
    """Higher is better; the unit is the task's."""
    standard_error: float
    """Of the value, as a sample of an infinite population, in the same unit."""
    num_samples: int
    """Samples that the value averages over."""
