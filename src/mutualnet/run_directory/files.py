"""What the files and folders of a run are called."""

from __future__ import annotations

CONFIG, WEIGHTS, INFO = "config.yaml", "weights.safetensors", "run.json"
NORMS, HEADS = "own_norms.safetensors", "heads.safetensors"
TABLE, TABLE_CSV, BANK, PLOT = "table.json", "table.csv", "bn_bank.safetensors", "frontier.png"
FORMAT = "format.json"
"""Number format and memory layout that a run trains in."""
CHECKPOINTS, LOGS = "checkpoints", "logs"
"""Folders: what an interrupted run is resumed from, and its epochs' rows."""
TRAINED, TABULATED = (CONFIG, INFO, WEIGHTS, NORMS, HEADS, FORMAT), (TABLE, TABLE_CSV, BANK, PLOT)
"""Files that have checksums, by the command that writes them."""


def network_name(number: int) -> str:
    """Folder of one of several networks in their common run, by its number from 0."""
    return f"network{number + 1}"
