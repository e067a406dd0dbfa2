"""Search for sub-networks off the uniform grid: widths for each stage, depth and resolution.

`choices` says what can be chosen, `scoring` tries sub-networks, `greedy` and `evolutionary` decide
which, `finds` brings the best of them into a table. Start at `search`.
"""

from __future__ import annotations

from mutualnet.search.choices import Choices
from mutualnet.search.finds import best_finds, with_finds
from mutualnet.search.scoring import Evaluation
from mutualnet.search.search import METHODS, SearchResult, search_subnets

__all__ = [
    "METHODS",
    "Choices",
    "Evaluation",
    "SearchResult",
    "best_finds",
    "search_subnets",
    "with_finds",
]
