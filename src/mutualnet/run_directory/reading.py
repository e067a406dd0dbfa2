"""A finished run read back: its network, or only what it says of itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from mutualnet.checksums import read_checksums, whole_files
from mutualnet.clip_steps import ClipSampling
from mutualnet.config import Recipe, read_recipe
from mutualnet.data import Preprocessing, TaskScaling, photo_transform
from mutualnet.messages import first_line
from mutualnet.models import create_model
from mutualnet.run_directory.files import (
    BANK,
    CONFIG,
    FORMAT,
    HEADS,
    INFO,
    LOGS,
    NORMS,
    TABLE,
    TABULATED,
    WEIGHTS,
)
from mutualnet.run_directory.run_info import info_of_one
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable
from mutualnet.tasks import Task, make_task
from mutualnet.trust import check_trusted


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


def load_run(path: Path | str, *, trust: bool = False, with_table: bool = True) -> Run:
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
    path = Path(path)
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
    run_info = info_of_one(path)
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
    run_info = info_of_one(path)
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


def _load_run(path: Path, trust: bool, with_table: bool) -> Run:
    trained = load_trained(path, trust=trust)
    recipe = trained.recipe
    others = (NORMS, HEADS, FORMAT, *(TABULATED if with_table else ()))
    files = whole_files(path, others)
    in_channels = trained.info["in_channels"]
    supernet = make_supernet(trained.model, recipe, make_task(recipe.task), in_channels).eval()
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


def make_supernet(
    model: nn.Module,
    recipe: Recipe,
    task: Task,
    in_channels: int,
    *,
    sort_channels: str | None = None,
) -> Supernet:
    """The supernet that a recipe makes of a network.

    Args:
        model: The network.
        recipe: Says its space, its norms, and what of an image or clip is loaded.
        task: Of the recipe.
        in_channels: C of the data.
        sort_channels: As for `Supernet`.

    Raises:
        ValueError: If the network does not fit its space, or the space's frames the clips.
    """
    side = recipe.load_resolution
    frames = (ClipSampling(**recipe.clip_options).num_frames,) if recipe.clip_options else ()
    return Supernet(
        model,
        recipe.space,
        own_norms=recipe.method.value.owns_norms,
        sort_channels=sort_channels,
        example_input=task.example_maker((in_channels, *frames, side, side)),
    )


def preprocessing_of(recipe: Recipe, evaluation: Preprocessing | None = None) -> Preprocessing:
    """What an image goes through before a network that was trained by a recipe.

    Args:
        recipe: What was trained.
        evaluation: What the test images of its data go through; by default looked up by the name of
            the data.
    """
    found = evaluation or photo_transform(recipe.data.name, recipe.load_resolution)
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
