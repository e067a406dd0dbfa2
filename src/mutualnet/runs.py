"""A run directory: written whole or not at all, and read back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from mutualnet.config import Recipe, read_recipe, write_recipe
from mutualnet.models import create_model
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable

__all__ = ["Run", "load_run", "new_run", "save_run", "save_table"]

FORMAT_VERSION = 1
CONFIG, WEIGHTS, INFO = "config.yaml", "weights.safetensors", "run.json"
TABLE, TABLE_CSV, BANK, PLOT = "table.json", "table.csv", "bn_bank.safetensors", "frontier.png"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training run."""

    path: Path
    recipe: Recipe
    supernet: Supernet
    """With the trained weights, in eval mode, and the BN bank if the table was made."""
    info: dict[str, Any]
    """What `run.json` holds: class names, data, versions, times."""
    table: QueryTable | None
    """None until `mutualnet table` has made it."""


@contextmanager
def new_run(out: Path, recipe: Recipe) -> Iterator[Path]:
    """Give a directory to write a run into, which gets its name when the block ends well.

    The recipe is in it from the start.

    After an error it stays under its temporary name, so that nothing half-written is taken for a
    result, and the error says where.

    Raises:
        ValueError: If something is already at `out`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} must not exist yet, got one with content. Choose another --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    partial.mkdir()
    write_recipe(recipe, partial / CONFIG)
    try:
        yield partial
    except BaseException as error:
        if [path.name for path in partial.iterdir()] == [CONFIG]:
            (partial / CONFIG).unlink()
            partial.rmdir()
        else:
            error.add_note(f"What was written so far is in {partial}.")
        raise
    if out.exists():
        out.rmdir()  # an empty directory
    partial.rename(out)


def save_run(path: Path, supernet: Supernet, info: dict[str, Any]) -> None:
    """Write weights and facts; the facts last, since they mark a run as whole."""
    save_model(supernet.model, str(path / WEIGHTS))
    content = {"format": "mutualnet.run", "format_version": FORMAT_VERSION, **info}
    (path / INFO).write_text(json.dumps(content, indent=1) + "\n")


def save_table(run: Run, table: QueryTable) -> None:
    """Write the table and the BN bank it was scored with; a file is replaced when it is whole."""
    bank = run.path / f".{BANK}.partial"
    run.supernet.bank.save(
        bank,
        weights_hash=run.supernet.weights_hash(),
        weights_version=run.supernet.weights_version,
    )
    bank.replace(run.path / BANK)
    rows = run.path / f".{TABLE_CSV}.partial"
    rows.write_text(table.to_csv())
    rows.replace(run.path / TABLE_CSV)
    table.save(run.path / TABLE)


def load_run(path: Path) -> Run:
    """Read a run that `mutualnet train` wrote.

    Raises:
        ValueError: If there is no whole run, or a file of it is damaged.
    """
    info = _read_info(path)
    recipe = read_recipe(path / CONFIG)
    model = create_model(
        recipe.model.name,
        num_classes=len(info["class_names"]),
        in_channels=info["in_channels"],
        **recipe.model.kwargs,
    )
    try:
        load_model(model, str(path / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{path / WEIGHTS} does not hold this network's weights ({reason}). Train again."
        ) from None
    supernet = Supernet(model, recipe.space).eval()
    table = None
    if (path / TABLE).exists():
        table = QueryTable.load(path / TABLE)
        supernet.bank.load(
            path / BANK,
            weights_hash=supernet.weights_hash(),
            weights_version=supernet.weights_version,
        )
    return Run(path=path, recipe=recipe, supernet=supernet, info=info, table=table)


def _read_info(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise ValueError(f"{path} must be a run directory that `mutualnet train` made, got nothing")
    if ".partial-" in path.name:
        raise ValueError(f"{path} is a run that was not finished. Train again.")
    missing = [name for name in (CONFIG, WEIGHTS, INFO) if not (path / name).is_file()]
    if missing:
        raise ValueError(
            f"{path} must be a whole run directory, but has no {missing[0]}. Train again with "
            "`mutualnet train RECIPE --out DIRECTORY`."
        )
    try:
        info = json.loads((path / INFO).read_text())
    except ValueError as error:
        raise ValueError(f"{path / INFO} is damaged ({error}). Train again.") from None
    if not isinstance(info, dict) or info.get("format") != "mutualnet.run":
        raise ValueError(f"{path / INFO} was not written by `mutualnet train`")
    if info.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has run format {info.get('format_version')}, this version reads "
            f"{FORMAT_VERSION}. Train again, or use the version of mutualnet that wrote it."
        )
    return info
