"""Mean over seeds and its interval, as text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t


def half_interval(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean; 0 for one value."""
    if len(values) < 2:
        return 0.0
    student = float(t.ppf(0.975, len(values) - 1))
    return student * statistics.stdev(values) / math.sqrt(len(values))


def mean_and_interval(values: Sequence[float], digits: int = 1) -> str:
    """Mean and half of the 95 % interval; the mean alone for one seed."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {half_interval(values):.{digits}f}"
