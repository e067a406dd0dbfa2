"""A run directory: written whole or not at all, and read back.

`unfinished` while it is trained, `writing` and `reading` from then on.
"""

from __future__ import annotations

from mutualnet.run_directory.files import (
    CHECKPOINTS,
    CONFIG,
    FORMAT,
    INFO,
    LOGS,
    NORMS,
    PLOT,
    WEIGHTS,
    network_name,
)
from mutualnet.run_directory.reading import (
    Run,
    RunRecord,
    TrainedModel,
    load_run,
    load_trained,
    logs_of,
    make_supernet,
    preprocessing_of,
    read_record,
)
from mutualnet.run_directory.run_info import networks_of, write_peers_info
from mutualnet.run_directory.unfinished import new_run
from mutualnet.run_directory.writing import save_heads, save_plot, save_run, save_table, seal_run

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "FORMAT",
    "INFO",
    "LOGS",
    "NORMS",
    "PLOT",
    "WEIGHTS",
    "Run",
    "RunRecord",
    "TrainedModel",
    "load_run",
    "load_trained",
    "logs_of",
    "make_supernet",
    "network_name",
    "networks_of",
    "new_run",
    "preprocessing_of",
    "read_record",
    "save_heads",
    "save_plot",
    "save_run",
    "save_table",
    "seal_run",
    "write_peers_info",
]
