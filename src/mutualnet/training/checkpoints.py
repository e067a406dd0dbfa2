"""Checkpoints of a run to resume from: written whole or not at all, and checked when read."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from mutualnet.messages import first_line

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{9})-([0-9a-f]{16})\.pt")
_KEPT = 2
"""Checkpoints that are kept: the newest may turn out damaged."""


def write_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path | None:
    """Write a checkpoint under a name that holds its step and a hash of its bytes.

    Where that fails, on a full disk, the checkpoints before stay and a warning names the last.

    Args:
        folder: Made if it is not there.
        step: Steps done.
        state: Tensors and plain values.

    Returns:
        The file, None if it could not be written.
    """
    memory = io.BytesIO()
    torch.save(state, memory)
    content = memory.getbuffer()
    digest = hashlib.sha256(content).hexdigest()[:16]
    partial = folder / f".step-{step:09d}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # the new name must not outlive the bytes after a power cut
        path = folder / f"step-{step:09d}-{digest}.pt"
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        kept = _checkpoints(folder)
        last = f"the last good one is {kept[-1][1]}" if kept else "there is none yet"
        logger.warning("the checkpoint of step %d could not be written (%s); %s", step, error, last)
        return None
    others = [(number, other) for number, other in _checkpoints(folder) if other != path]
    # Later ones were damaged, or the run began anew: they are none of this run's.
    outdated = [other for number, other in others if number >= step]
    before = [other for number, other in others if number < step]
    for other in (*outdated, *before[: 1 - _KEPT]):
        other.unlink(missing_ok=True)
    return path


def latest_checkpoint(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Read the newest checkpoint that is whole; damaged ones are named in a warning.

    Args:
        folder: Where `write_checkpoint` wrote. May be missing.

    Returns:
        Steps done and the state, None if there is no whole checkpoint.

    Raises:
        ValueError: If a whole one holds what these versions cannot read.
    """
    for step, path in reversed(_checkpoints(folder)):
        try:
            content = path.read_bytes()
        except OSError as error:
            logger.warning("checkpoint %s cannot be read (%s), trying the one before", path, error)
            continue
        match = _NAME.fullmatch(path.name)
        assert match is not None  # _checkpoints lists no others
        if hashlib.sha256(content).hexdigest()[:16] != match[2]:
            logger.warning("checkpoint %s is damaged, trying the one before", path)
            path.rename(path.with_suffix(".damaged"))
            continue
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:  # whole, but not of this version
            raise ValueError(
                f"checkpoint {path} cannot be read here ({first_line(error)}). Resume with the "
                "versions that wrote it, or remove the unfinished run."
            ) from None
        return step, state
    return None


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Steps and files, oldest first."""
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is not None:
            found.append((int(match[1]), path))
    return sorted(found)
