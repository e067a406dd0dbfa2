"""Mean over seeds and its interval, as text."""

from __future__ import annotations

import math
import statistics

_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t for 95 %, by the number of seeds."""


def mean_and_interval(values: list[float], digits: int = 1) -> str:
    """Mean and half of the 95 % interval; the mean alone for one seed."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = _T[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.{digits}f} ± {half:.{digits}f}"
