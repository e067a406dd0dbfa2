"""A run while it is trained: under a temporary name, locked, and resumed after an interruption."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mutualnet.checksums import whole_files
from mutualnet.config import Recipe, read_recipe, recipe_values, write_recipe
from mutualnet.distributed import current_ranks, from_first
from mutualnet.image_paths import as_typed
from mutualnet.messages import ReportedElsewhereError
from mutualnet.run_directory.files import CHECKPOINTS, CONFIG, INFO
from mutualnet.run_directory.run_info import read_run_info

logger = logging.getLogger(__name__)


@contextmanager
def new_run(out: Path, recipe: Recipe, *, resume: bool = False) -> Iterator[Path | None]:
    """Give a directory to write a run into, which gets its name when the block ends well.

    The recipe is in it from the start. Until the end it has a temporary name, so that nothing
    half-written is taken for a result; after an error it stays there if it holds a checkpoint to
    resume from, and the error says so. Of several processes the first makes it, and all get its
    path.

    Args:
        out: The directory's name in the end. Where it is a link, the run is made at the link's end.
        recipe: What is trained.
        resume: Continue in the directory that an interrupted run of the same recipe left.

    Yields:
        The directory, or None if `resume` finds that the run is finished.

    Raises:
        ValueError: If something else is at `out`, an unfinished run is in the way or was of another
            recipe, or another process is at it.
    """
    # No directory can be given the name of a link.
    end = Path(os.path.realpath(out)) if out.is_symlink() else out
    with ExitStack() as held:
        place = _begin_in_first(held, end, recipe, resume)
        if place is None or not current_ranks().is_first:
            yield place
            return
        with _left_if_of_use(place, out):
            yield place
        if end.exists():
            end.rmdir()  # an empty directory
        place.rename(end)


def _begin_in_first(held: ExitStack, out: Path, recipe: Recipe, resume: bool) -> Path | None:
    """Begin in the first process; all get the directory, and all end where it could not begin."""
    place: Path | None = None
    problem: str | None = None
    is_first = current_ranks().is_first
    if is_first:
        try:
            place = _begin(held, out, recipe, resume)
        except ValueError as error:
            problem = str(error)
    place, problem = from_first((place, problem))
    if problem is not None:
        raise ValueError(problem) if is_first else ReportedElsewhereError(problem)
    return place


@contextmanager
def _left_if_of_use(place: Path, out: Path) -> Iterator[None]:
    """After an error say what is in the unfinished directory, or remove it if that is nothing."""
    try:
        yield
    except BaseException as error:
        if _holds_checkpoint(place):
            error.add_note(
                f"Its checkpoints are in {place}; continue with --resume --out {as_typed(out)}, "
                "or remove it to train with other settings."
            )
        elif [path.name for path in place.iterdir()] == [CONFIG]:
            shutil.rmtree(place)
        else:
            error.add_note(f"What was written so far is in {place}.")
        raise


def _begin(held: ExitStack, out: Path, recipe: Recipe, resume: bool) -> Path | None:
    """Make or find the directory with the temporary name; None for a finished run."""
    if not out.name:
        raise ValueError(f"--out must name a directory to make, got {out}")
    if resume and (out / INFO).is_file():
        read_run_info(out)
        _check_same(out, recipe, "finished")
        return None
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} must not exist yet, got one with content. Choose another --out.")
    if out.is_symlink():  # still, where links have no end
        raise ValueError(f"{out} must not be a link to itself. Choose another --out.")
    if os.path.ismount(out):  # which cannot be replaced
        raise ValueError(
            f"{out} must not be where a file system is mounted. Choose a directory in it, such as "
            f"--out {out / 'run'}."
        )
    partial = out.parent / f".{out.name}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        held.enter_context(_locked(partial))
    except OSError as error:
        raise ValueError(
            f"--out must be a directory that can be made, got {out} ({error.strerror or error}). "
            "Choose another."
        ) from None
    is_begun = (partial / CONFIG).is_file()
    if is_begun and (resume or _holds_checkpoint(partial)):
        _check_resumable(partial, recipe, resume)
    else:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        write_recipe(recipe, partial / CONFIG)
    return partial


def _holds_checkpoint(partial: Path) -> bool:
    folder = partial / CHECKPOINTS
    return folder.is_dir() and any(folder.glob("step-*.pt"))


def _check_resumable(partial: Path, recipe: Recipe, resume: bool) -> None:
    if not resume:
        raise ValueError(
            f"an unfinished run is in {partial}. Go on with it by --resume, or remove it."
        )
    _check_same(partial, recipe, "unfinished")


def _check_same(place: Path, recipe: Recipe, kind: str) -> None:
    begun = read_recipe(whole_files(place, [CONFIG])[CONFIG])
    before, now = (_what_matters(r) for r in (begun, recipe))
    changed = [f"{key} was {before[key]}, is {now[key]}" for key in now if before[key] != now[key]]
    if changed:
        raise ValueError(
            f"the {kind} run in {place} must be resumed by the recipe it began with, but "
            f"{changed[0]}. Give the same options, or remove it."
        )


def _what_matters(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides the weights, as plain values that YAML does not change."""
    values = json.loads(json.dumps(recipe_values(recipe)))
    for key in ("name", "description", "table", "watch", "checkpoint_minutes"):
        del values[key]
    del values["data"]["num_workers"]
    return {
        f"{key}.{name}" if name else key: value
        for key, part in values.items()
        for name, value in (part.items() if isinstance(part, dict) else [("", part)])
    }


@contextmanager
def _locked(partial: Path) -> Iterator[None]:
    """Keep other processes away from a directory; a killed one lets go by itself."""
    place = partial.with_name(partial.name + ".lock")
    with place.open("w") as file:
        try:
            # Not flock(), which orphaned workers of a killed process would go on holding.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ValueError(
                f"another process is training into {partial}. Choose another --out."
            ) from None
        except OSError as error:
            logger.warning("%s cannot be locked (%s): start one process for it only", place, error)
        try:
            yield
        finally:
            place.unlink(missing_ok=True)
