"""A run directory: written whole or not at all, and read back."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from mutualnet.checksums import read_checksums, replaced_files, whole_files, write_checksums
from mutualnet.config import Recipe, read_recipe, recipe_values, write_recipe
from mutualnet.data import Preprocessing, TaskScaling, photo_transform
from mutualnet.distributed import current_ranks, from_first
from mutualnet.file_mode import mode_of_new_files
from mutualnet.messages import ReportedElsewhereError, first_line
from mutualnet.models import create_model
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable
from mutualnet.trust import check_trusted

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
CONFIG, WEIGHTS, INFO = "config.yaml", "weights.safetensors", "run.json"
NORMS, HEADS = "own_norms.safetensors", "heads.safetensors"
_RUN, _PEERS = "mutualnet.run", "mutualnet.peers"
"""What `run.json` says it is about: one network, or several."""
TABLE, TABLE_CSV, BANK, PLOT = "table.json", "table.csv", "bn_bank.safetensors", "frontier.png"
FORMAT = "format.json"
"""Number format and memory layout that a run trains in."""
CHECKPOINTS, LOGS = "checkpoints", "logs"
"""Folders: what an interrupted run is resumed from, and its epochs' rows."""
_TRAINED, _TABULATED = (CONFIG, INFO, WEIGHTS, NORMS, HEADS, FORMAT), (TABLE, TABLE_CSV, BANK, PLOT)
"""Files that have checksums, by the command that writes them."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training run."""

    path: Path
    recipe: Recipe
    supernet: Supernet
    """With the trained weights, in eval mode, and the BN bank if the table was made."""
    preprocessing: Preprocessing
    """From a PIL image to the network's input: `preprocessing(image, resolution)`."""
    info: dict[str, Any]
    """What `run.json` holds: class names, data, versions, times."""
    table: QueryTable | None
    """None until `mutualnet table` has made it."""


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """The network of a finished run, and what it was trained as."""

    recipe: Recipe
    model: nn.Module
    """With the trained weights of the full network, in eval mode."""
    info: dict[str, Any]
    """As in `Run`."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a finished run says about itself, without its network."""

    path: Path
    recipe: Recipe
    recipe_text: str
    """As it is written in the run."""
    info: dict[str, Any]
    """As in `Run`."""
    table: QueryTable | None
    """None until `mutualnet table` has made it."""


@contextmanager
def new_run(out: Path, recipe: Recipe, *, resume: bool = False) -> Iterator[Path | None]:
    """Give a directory to write a run into, which gets its name when the block ends well.

    The recipe is in it from the start. Until the end it has a temporary name, so that nothing
    half-written is taken for a result; after an error it stays there if it holds a checkpoint to
    resume from, and the error says so. Of several processes the first makes it, and all get its
    path.

    Args:
        out: The directory's name in the end.
        recipe: What is trained.
        resume: Continue in the directory that an interrupted run of the same recipe left.

    Yields:
        The directory, or None if `resume` finds that the run is finished.

    Raises:
        ValueError: If something else is at `out`, an unfinished run is in the way or was of another
            recipe, or another process is at it.
    """
    with ExitStack() as held:
        place = _begin_in_first(held, out, recipe, resume)
        if place is None or not current_ranks().is_first:
            yield place
            return
        with _left_if_of_use(place, out):
            yield place
        if out.exists():
            out.rmdir()  # an empty directory
        place.rename(out)


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
            error.add_note(f"Its checkpoints are in {place}; continue with --resume --out {out}.")
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
        _read_run_info(out)
        _check_same(out, recipe, "finished")
        return None
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} must not exist yet, got one with content. Choose another --out.")
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


def save_run(path: Path, supernet: Supernet, run_info: dict[str, Any]) -> None:
    """Write weights and `run.json`, which comes last, since it marks a run as whole."""
    _write(supernet.model, path / WEIGHTS)
    if supernet.own_norms is not None:
        _write(supernet.own_norms, path / NORMS)
    content = {"format": _RUN, "format_version": FORMAT_VERSION, **run_info}
    (path / INFO).write_text(json.dumps(content, indent=1) + "\n")


def _write(module: nn.Module, file: Path) -> None:
    try:
        with mode_of_new_files(file):
            save_model(module, str(file))
    except SafetensorError as error:  # how it reports what the disk refuses
        raise OSError(f"{file} could not be written ({error})") from error


def network_name(number: int) -> str:
    """Folder of one of several networks in their common run, by its number from 0."""
    return f"network{number + 1}"


def save_heads(path: Path, heads: nn.Module) -> None:
    """Write a network's auxiliary heads beside its weights."""
    _write(heads, path / HEADS)


def save_peers(path: Path, count: int, run_info: dict[str, Any]) -> None:
    """Mark a run of several networks as whole: each of them is a run of its own inside."""
    content = {
        "format": _PEERS,
        "format_version": FORMAT_VERSION,
        **run_info,
        "networks": [network_name(number) for number in range(count)],
    }
    (path / INFO).write_text(json.dumps(content, indent=1) + "\n")


def seal_run(path: Path) -> None:
    """Write the checksums of a run whose files are all there."""
    write_checksums(path, _TRAINED)


def networks_of(path: Path) -> list[Path]:
    """The runs of a finished run's networks: itself, or one for each of several."""
    run_info = _read_run_info(path)
    if run_info["format"] == _RUN:
        return [path]
    return [path / name for name in run_info["networks"]]


def save_table(run: Run, table: QueryTable) -> None:
    """Write the table and the BN bank it was scored with, all at once."""
    with replaced_files(run.path, (*_TRAINED, *_TABULATED)) as new:
        run.supernet.bank.save(
            new / BANK,
            weights_hash=run.supernet.weights_hash(),
            weights_version=run.supernet.weights_version,
        )
        (new / TABLE_CSV).write_text(table.to_csv())
        table.save(new / TABLE)


def save_plot(run: Run, draw: Callable[[Path], None]) -> Path:
    """Let a function draw the picture of a run's table into a file, and return its place."""
    with replaced_files(run.path, (*_TRAINED, *_TABULATED)) as new:
        draw(new / PLOT)
    return run.path / PLOT


def load_run(path: Path, *, trust: bool = False, with_table: bool = True) -> Run:
    """Read a run that `mutualnet train` wrote.

    Nothing in it is executed: functions that its recipe names are called only if they are this
    package's, timm's or torchvision's, or if you say so.

    Args:
        path: The directory.
        trust: Import and call what else its recipe names; the log says what that is.
        with_table: Read its table and BN bank too; without them it can get new ones.

    Raises:
        ValueError: If there is no whole run, a file of it is damaged, or its recipe names functions
            of others without `trust`.
    """
    while True:
        before = read_checksums(path)
        run = _load_run(path, trust, with_table)
        if read_checksums(path) == before:  # else it got a new table meanwhile
            return run


def load_trained(path: Path, *, trust: bool = False) -> TrainedModel:
    """Read the network of a run alone: neither table nor BN bank, and nothing is traced.

    Args:
        path: The directory.
        trust: As for `load_run`.

    Raises:
        ValueError: As `load_run` does.
    """
    run_info = _info_of_one(path)
    files = whole_files(path, (CONFIG, WEIGHTS))
    recipe = read_recipe(files[CONFIG])
    check_trusted(recipe, path / CONFIG, trust=trust)
    model = create_model(
        recipe.model.name,
        num_classes=len(run_info["class_names"]),
        in_channels=run_info["in_channels"],
        **recipe.model.kwargs,
    )
    _load(model, path / WEIGHTS)
    return TrainedModel(recipe=recipe, model=model.eval(), info=run_info)


def read_record(path: Path) -> RunRecord:
    """Read what a run says about itself; no function that it names is called.

    Args:
        path: The directory.

    Raises:
        ValueError: If there is no whole run, a file of it is damaged, or it holds several networks.
    """
    run_info = _info_of_one(path)
    files = whole_files(path, (CONFIG, TABLE))
    return RunRecord(
        path=path,
        recipe=read_recipe(files[CONFIG]),
        recipe_text=files[CONFIG].read_text("utf-8"),
        info=run_info,
        table=QueryTable.load(files[TABLE]) if TABLE in files else None,
    )


def logs_of(path: Path) -> Path:
    """Folder of a run's logs; several networks that trained together have one in common."""
    own = path / LOGS
    common = path.resolve().parent
    is_shared = not own.exists() and (common / INFO).is_file() and (common / LOGS).is_dir()
    return common / LOGS if is_shared else own


def _info_of_one(path: Path) -> dict[str, Any]:
    """What `run.json` says of the run of one network."""
    run_info = _read_run_info(path)
    if run_info["format"] == _PEERS:
        places = ", ".join(str(path / name) for name in run_info["networks"])
        raise ValueError(f"{path} holds several networks; name one of them: {places}")
    return run_info


def _load_run(path: Path, trust: bool, with_table: bool) -> Run:
    trained = load_trained(path, trust=trust)
    recipe = trained.recipe
    others = (NORMS, HEADS, FORMAT, *(_TABULATED if with_table else ()))
    files = whole_files(path, others)
    owns_norms = recipe.method.value.owns_norms
    supernet = Supernet(trained.model, recipe.space, own_norms=owns_norms).eval()
    if supernet.own_norms is not None:
        _load(supernet.own_norms, path / NORMS)
    table = None
    if TABLE in files:
        table = QueryTable.load(files[TABLE])
        supernet.bank.load(
            files.get(BANK, path / BANK),
            weights_hash=supernet.weights_hash(),
            weights_version=supernet.weights_version,
        )
    return Run(
        path=path,
        recipe=recipe,
        supernet=supernet,
        info=trained.info,
        table=table,
        preprocessing=_preprocessing(path, recipe, trained.info),
    )


def preprocessing_of(recipe: Recipe, evaluation: Preprocessing | None = None) -> Preprocessing:
    """What an image goes through before a network that was trained by a recipe.

    Args:
        recipe: What was trained.
        evaluation: What the test images of its data go through; by default looked up by the name of
            the data.
    """
    found = evaluation or photo_transform(recipe.data.name, recipe.space.resolutions[0])
    return replace(found, last=TaskScaling(task=recipe.task)) if ":" in recipe.task else found


def _preprocessing(path: Path, recipe: Recipe, run_info: dict[str, Any]) -> Preprocessing:
    if "preprocessing" not in run_info:  # of an earlier version
        return preprocessing_of(recipe)
    try:
        return Preprocessing.from_values(run_info["preprocessing"])
    except ValueError as error:
        raise ValueError(f"{path / INFO} is damaged ({error}). Train again.") from None


def _load(module: nn.Module, file: Path) -> None:
    if not os.access(file, os.R_OK):
        raise ValueError(f"{file} must be readable, got no permission")
    try:
        load_model(module, str(file))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{file} does not hold this network's weights ({first_line(error)}). Train again."
        ) from None


def _read_run_info(path: Path) -> dict[str, Any]:
    """What `run.json` of a finished run says, of one network or of several."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise ValueError(f"{path} must be a run directory that `mutualnet train` made, got {found}")
    if path.name.endswith(".partial"):
        raise ValueError(f"{path} is a run that was not finished. Go on with it by --resume.")
    for name in (CONFIG, INFO):
        if not (path / name).is_file():
            raise _missing(path, name)
    files = whole_files(path, [CONFIG, INFO])
    try:
        run_info = json.loads(files[INFO].read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path / INFO} is damaged ({error}). Train again.") from None
    if not isinstance(run_info, dict) or run_info.get("format") not in (_RUN, _PEERS):
        raise ValueError(f"{path / INFO} was not written by `mutualnet train`")
    if run_info.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has run format {run_info.get('format_version')}, this version reads "
            f"{FORMAT_VERSION}. Train again, or use the version of mutualnet that wrote it."
        )
    for key, kind in _RUN_INFO[run_info["format"]].items():
        value = run_info.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):  # which Python counts as int
            raise ValueError(f"{path / INFO} is damaged (no {key}). Train again.")
    for key in ("networks", "class_names"):
        wrong = [name for name in run_info.get(key, ()) if not isinstance(name, str)]
        if wrong:
            raise ValueError(
                f"{path / INFO} is damaged ({key} must be text, got {wrong[0]!r:.80}). Train again."
            )
    if run_info["format"] == _PEERS:
        expected = [network_name(number) for number in range(len(run_info["networks"]))]
        if run_info["networks"] != expected:
            raise ValueError(f"{path / INFO} is damaged (no networks). Train again.")
    if run_info["format"] == _RUN and not (path / WEIGHTS).is_file():
        raise _missing(path, WEIGHTS)
    return run_info


def _missing(path: Path, name: str) -> ValueError:
    return ValueError(
        f"{path} must be a whole run directory, but has no {name}. Train again with "
        "`mutualnet train RECIPE --out DIRECTORY`."
    )


_RUN_INFO: dict[str, dict[str, type]] = {
    _RUN: {"class_names": list, "in_channels": int, "data_id": str},
    _PEERS: {"networks": list},
}
"""What `run.json` must hold."""
