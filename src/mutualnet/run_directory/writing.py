"""What is written into a run: weights once it is trained, table and picture later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_model
from torch import nn

from mutualnet.checksums import replaced_files, write_checksums
from mutualnet.file_mode import mode_of_new_files
from mutualnet.run_directory.files import (
    BANK,
    HEADS,
    NORMS,
    PLOT,
    TABLE,
    TABLE_CSV,
    TABULATED,
    TRAINED,
    WEIGHTS,
)
from mutualnet.run_directory.reading import Run
from mutualnet.run_directory.run_info import write_run_info
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable


def save_run(path: Path, supernet: Supernet, run_info: dict[str, Any]) -> None:
    """Write weights and `run.json`, which comes last, since it marks a run as whole."""
    _write(supernet.model, path / WEIGHTS)
    if supernet.own_norms is not None:
        _write(supernet.own_norms, path / NORMS)
    write_run_info(path, run_info)


def _write(module: nn.Module, file: Path) -> None:
    try:
        with mode_of_new_files(file):
            save_model(module, str(file))
    except SafetensorError as error:  # how it reports what the disk refuses
        raise OSError(f"{file} could not be written ({error})") from error


def save_heads(path: Path, heads: nn.Module) -> None:
    """Write a network's auxiliary heads beside its weights."""
    _write(heads, path / HEADS)


def seal_run(path: Path) -> None:
    """Write the checksums of a run whose files are all there."""
    write_checksums(path, TRAINED)


def save_table(run: Run, table: QueryTable) -> None:
    """Write the table and the BN bank it was scored with, all at once."""
    with replaced_files(run.path, (*TRAINED, *TABULATED)) as new:
        run.supernet.bank.save(
            new / BANK,
            weights_hash=run.supernet.weights_hash(),
            weights_version=run.supernet.weights_version,
        )
        (new / TABLE_CSV).write_text(table.to_csv())
        table.save(new / TABLE)


def save_plot(run: Run, draw: Callable[[Path], None]) -> Path:
    """Let a function draw the picture of a run's table into a file, and return its place."""
    with replaced_files(run.path, (*TRAINED, *TABULATED)) as new:
        draw(new / PLOT)
    return run.path / PLOT
