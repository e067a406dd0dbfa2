"""Mean over seeds and its interval, as text."""

from __future__ import annotations

import math
import statistics

_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t for 95 %, by the number of seeds."""


def half_interval(values: list[float]) -> float:
    """Half of the 95 % interval of the mean; 0 for one value."""
    if len(values) < 2:
        return 0.0
    return _T[len(values)] * statistics.stdev(values) / math.sqrt(len(values))


def mean_and_interval(values: list[float], digits: int = 1) -> str:
    """Mean and half of the 95 % interval; the mean alone for one seed."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {half_interval(values):.{digits}f}"
