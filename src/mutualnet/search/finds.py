"""What a search has found, in a table: rows that beat every row it had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mutualnet.search.scoring import Evaluation
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable
from mutualnet.tabulation import with_rows


def best_finds(
    supernet: Supernet, evaluations: Iterable[Evaluation], table: QueryTable, most: int
) -> list[Subnet]:
    """What is worth scoring in full: the front of what was tried, without rows of the table.

    Args:
        supernet: Tells equal networks.
        evaluations: Everything that was tried.
        table: Where the finds are to go.
        most: How many at most; of more, every n-th along the front.
    """
    known = {supernet.key(row.subnet) for row in table.finished}
    front: list[Evaluation] = []
    for found in sorted(evaluations, key=lambda e: (e.macs, -e.score)):
        if not front or found.score > front[-1].score:
            front.append(found)
    new = [found.subnet for found in front if supernet.key(found.subnet) not in known]
    if len(new) <= most:
        return new
    return [new[round(n * (len(new) - 1) / max(1, most - 1))] for n in range(most)]


def with_finds(
    table: QueryTable, found: QueryTable | None, method: str, about: Mapping[str, Any]
) -> QueryTable:
    """A table with the rows of a search that no finished row of it beats or equals.

    Args:
        table: Kept as it is.
        found: The finds, scored and timed as the table's rows are; None if there are none.
        method: What found them; the rows say so.
        about: More about the search, for the table's `meta["searches"]`.
    """
    rows = [
        replace(row, found_by=method)
        for row in (found.front() if found is not None else ())
        if not any(r.macs <= row.macs and r.score >= row.score for r in table.finished)
    ]
    searches = [*table.meta.get("searches", []), {"method": method, "added": len(rows), **about}]
    return with_rows(table, rows, found, searches=searches)
