"""Files in, what they show out: by one sub-network of a run."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mutualnet.budget import Budget
from mutualnet.cost import latency_circumstances
from mutualnet.image_paths import as_typed, shown
from mutualnet.messages import reason_of, without_numbers
from mutualnet.precision import PLAIN, ComputeFormat, autocast_to
from mutualnet.prediction_documents import FilePrediction
from mutualnet.progress import counted
from mutualnet.run_directory import Run
from mutualnet.table import QueryTable, Row
from mutualnet.tasks import Task
from mutualnet.training import plain_task

logger = logging.getLogger(__name__)

_CPU = torch.device("cpu")


def choose_row(run: Run, limit: Budget) -> Row:
    """The best sub-network within a budget, of equals the cheapest.

    Raises:
        ValueError: If the run has no table, or nothing meets the budget.
    """
    if run.table is None:
        raise ValueError(
            f"{run.path} has no query table yet. Make it: mutualnet table {as_typed(run.path)}"
        )
    if limit == Budget():
        return run.table.top
    return run.table.best(macs=limit.macs, latency_ms=limit.latency_ms)


def note_other_device(run: Run, limit: Budget) -> None:
    """Say so where a budget of latency goes by what was timed on another device than this CPU."""
    assert run.table is not None
    there = run.table.meta.get("latency", {}).get("device")
    here = latency_circumstances(_CPU)["device"]
    if limit.latency_ms is not None and there not in (None, here):
        logger.warning(
            "latencies were measured on %s, predictions are made on this %s: measure them here "
            "with `CUDA_VISIBLE_DEVICES=-1 mutualnet table %s`",
            there,
            here,
            as_typed(run.path),
        )


def table_format(table: QueryTable) -> ComputeFormat:
    """The format that a table's latencies were measured in; fp32 in the oldest tables."""
    return ComputeFormat.parse(table.meta.get("format", str(PLAIN)))


class Classifier:
    """One sub-network of a run by itself, ready for files.

    Args:
        run: With its table.
        row: Which sub-network.
    """

    def __init__(self, run: Run, row: Row) -> None:
        assert run.table is not None
        self.run, self.row = run, row
        self.compute_format, self.task = table_format(run.table), plain_task(run.recipe)
        self._module = run.supernet.extract(row.subnet).eval()
        self.compute_format.arrange(self._module)

    def outputs(self, image: Image.Image) -> Any:
        """What the network gives for an image of any mode or size; logits (1, K) as a rule.

        Raises:
            ValueError: If the image cannot be converted, or the task is about no images.
        """
        return self._run(self.task.one_image(image, self.run.preprocessing))

    def _run(self, batch: Any) -> Any:
        scaled = self.task.scale(batch, self.row.subnet)
        with torch.inference_mode(), autocast_to(self.compute_format.autocast, _CPU):
            return self.task.run(self._module, scaled)

    def predict(self, path: Path, out: Path | None = None) -> FilePrediction:
        """Say what a file shows. One that cannot be read, or gives NaN, has an `error` for it.

        Args:
            path: The file.
            out: Where to write a copy on which it can be seen; None for nowhere.

        Raises:
            ValueError: If that file cannot be written.
        """
        file, kind = shown(path), self.task.input_kind
        if not path.is_file():
            where = "in" if path.is_dir() else "file"
            return FilePrediction(file=file, error=f"no {kind} {where} {file}")
        try:
            batch = self.task.read(path, self.run.preprocessing, self.run.recipe.clip_options)
        except Exception as error:  # decoders raise anything on a broken file
            return _unreadable(file, kind, error)
        outputs = self._run(batch)
        shares, names = self.task.probabilities(outputs), self.run.info["class_names"]
        if shares is not None and not bool(shares.isfinite().all()):
            return FilePrediction(file=file, error=without_numbers(file))
        try:
            objects = self.task.objects(path, outputs, names)
        except Exception as error:  # the file may have changed since
            return _unreadable(file, kind, error)
        if out is not None:
            self._draw(path, out, outputs)
        return FilePrediction(
            file=file,
            lines=tuple(self.task.describe(outputs, names)),
            probabilities=None if shares is None else tuple(shares[0].tolist()),
            objects=None if objects is None else tuple(objects),
            drawn=out,
        )

    def _draw(self, path: Path, out: Path, outputs: Any) -> None:
        if out.exists() and out.samefile(path):
            raise ValueError(_over_input(out))
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self.task.draw(path, out, outputs, self.run.info["class_names"])
        except (OSError, ValueError) as error:
            raise ValueError(
                f"-o must be {_a(self.task.input_kind)} that can be written, got {shown(out)} "
                f"({reason_of(error)})"
            ) from None


def _unreadable(file: str, kind: str, error: Exception) -> FilePrediction:
    text = f"{file} must be {_a(kind)} that can be read, got {reason_of(error)}"
    return FilePrediction(file=file, error=text)


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def drawn_places(task: Task, paths: Sequence[Path], out: Path | None) -> list[Path | None]:
    """Where a copy of each input is written on which one can see what it shows.

    Args:
        task: Knows how such files are called.
        paths: The inputs.
        out: A file for one input, a folder for several; a folder too if it is there, or its name
            has no ending. None for nowhere.

    Raises:
        ValueError: If `out` is a file and there are several inputs, or a copy would be written over
            one of them.
    """
    if out is None:
        return [None] * len(paths)
    if len(paths) == 1 and not out.is_dir() and out.suffix:
        places = [out]
    elif out.is_file():
        raise ValueError(f"-o must be a folder for {len(paths)} inputs, got the file {shown(out)}")
    else:
        names = _different([Path(task.drawn_name(path.name)) for path in paths])
        places = [out / name for name in names]
    inputs = {_file_id(path) for path in paths}
    for place in places:
        if _file_id(place) in inputs:
            raise ValueError(_over_input(place))
    return [*places]


def _over_input(place: Path) -> str:
    return f"-o must not write over what is predicted on, got {shown(place)}. Name another place."


def _file_id(path: Path) -> tuple[int, int] | Path:
    """The same for all names of a file, links too; also of one that is not there yet."""
    try:
        found = path.stat()
    except OSError:
        return Path(os.path.realpath(path))
    return found.st_dev, found.st_ino


def _different(names: Sequence[Path]) -> list[str]:
    """Names of which no two are equal: a number goes to all but the first of those that were."""
    given, seen = {name.name for name in names}, Counter[str]()
    found = []
    for name in names:
        seen[name.name] += 1
        number, new = seen[name.name], name.name
        while number > 1 and new in given:
            new = f"{name.stem}-{number}{name.suffix}"
            number += 1
        given.add(new)
        found.append(new)
    return found


def classify(
    classifier: Classifier, paths: Sequence[Path], places: Sequence[Path | None] | None = None
) -> Iterator[FilePrediction]:
    """Say what files show, one after the other; long work is counted in the log.

    Args:
        classifier: Reads them.
        paths: The files.
        places: Where each is written with what was found on it, see `drawn_places`.
    """
    drawn = [None] * len(paths) if places is None else places
    todo = list(zip(paths, drawn, strict=True))
    for path, place in counted(todo, classifier.task.input_kind, logger.info):
        yield classifier.predict(path, place)
