"""The query table of a trained network: all sub-networks scored and timed, or those ahead.

`full_table` finishes every row, `race_table` those that win a race, `race` decides who does.
"""

from __future__ import annotations

from mutualnet.tabulation.full_table import build_table
from mutualnet.tabulation.race import race
from mutualnet.tabulation.race_table import race_table

__all__ = ["build_table", "race", "race_table"]
