"""The tables of the page on pretrained networks."""

from __future__ import annotations

from pathlib import Path

from benchmarks.study_store import Store


def write_tables(store: Store, page: Path) -> None:
    """Write them between the page's marks."""
