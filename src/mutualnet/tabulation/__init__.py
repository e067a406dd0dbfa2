"""The query table of a trained network: all sub-networks scored and timed, or those ahead.

`inputs` says what a table is made from, `full_table` finishes every row, `race_table` those that
are left of a race, `race` decides who is. `more_rows` adds to a table that is there.
"""

from __future__ import annotations

from mutualnet.tabulation.full_table import build_table
from mutualnet.tabulation.inputs import TableInputs
from mutualnet.tabulation.more_rows import check_same_machine, with_rows
from mutualnet.tabulation.race import race
from mutualnet.tabulation.race_table import race_table

__all__ = [
    "TableInputs",
    "build_table",
    "check_same_machine",
    "race",
    "race_table",
    "with_rows",
]
