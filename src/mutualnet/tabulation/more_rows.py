"""Rows for a table that is there already: scored as its own were, put among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mutualnet.cost import latency_circumstances
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable, Row


def check_same_machine(table: QueryTable, supernet: Supernet) -> None:
    """Refuse to time rows elsewhere than a table's were.

    Args:
        table: Whose latencies are one column with those of the new rows.
        supernet: Where the new rows will be timed.

    Raises:
        ValueError: If device or threads differ.
    """
    there = table.meta.get("latency")
    if not there:
        return
    here = latency_circumstances(next(supernet.parameters()).device)
    for name, value in here.items():
        if there.get(name, value) != value:
            raise ValueError(
                f"new rows must be timed where the table was, which had {name} {there[name]}, here "
                f"it is {value}. Make the table here first: mutualnet table RUN"
            )


def with_rows(
    table: QueryTable,
    rows: Sequence[Row],
    measured: QueryTable | None,
    **meta: Any,
) -> QueryTable:
    """A table with more rows, in place of its own of the same sub-networks.

    Args:
        table: Kept as it is.
        rows: What is added.
        measured: Where the rows are from, with the tails of their latencies; None if there are no
            rows.
        meta: Replaces values of the table's `meta`.
    """
    added = {row.subnet for row in rows}
    kept = [row for row in table.rows if row.subnet not in added]
    values = {**table.meta, **meta}
    if measured is not None and "latency" in values and "latency" in measured.meta:
        timed = {str(subnet) for subnet in added}
        new = measured.meta["latency"]
        tails = {
            name: {
                **values["latency"].get(name, {}),
                **{k: v for k, v in new.get(name, {}).items() if k in timed},
            }
            for name in ("p90_ms", "p99_ms")
        }
        values["latency"] = {**values["latency"], **tails}
    return QueryTable.from_rows([*kept, *rows], values)
