"""Files in, what they show out: by one sub-network of a run, for people or for programs."""

from __future__ import annotations

import csv
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from mutualnet.budget import Budget
from mutualnet.cost import latency_circumstances
from mutualnet.image_paths import as_typed, shown
from mutualnet.messages import reason_of
from mutualnet.precision import PLAIN, ComputeFormat, autocast_to
from mutualnet.run_directory import Run
from mutualnet.table import QueryTable, Row
from mutualnet.tasks import Task
from mutualnet.training import plain_task

logger = logging.getLogger(__name__)

Output = Literal["text", "json", "csv"]

FORMAT, FORMAT_VERSION = "mutualnet.predictions", 1
_SECONDS_BETWEEN_LINES = 5.0
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class FilePrediction:
    """What a network says about a file, or why it was not asked."""

    file: str
    lines: tuple[str, ...] = ()
    """For people."""
    probabilities: tuple[float, ...] | None = None
    """Of every class, where the task has some."""
    objects: tuple[dict[str, Any], ...] | None = None
    """What was found, where the task finds objects: see `Task.objects`."""
    error: str | None = None
    """Why the file cannot be read."""
    drawn: Path | None = None
    """Where it can be seen."""


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
        """Say what a file shows. One that cannot be read gives an `error` that names it.

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
        try:
            objects = self.task.objects(path, outputs, names)
        except Exception as error:  # the file may have changed since
            return _unreadable(file, kind, error)
        if out is not None:
            self._draw(path, out, outputs)
        return FilePrediction(
            file=file,
            lines=tuple(self.task.describe(outputs, names)),
            probabilities=None if shares is None else tuple(_rounded(shares[0])),
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
    told = began = time.monotonic()
    drawn = [None] * len(paths) if places is None else places
    for number, (path, place) in enumerate(zip(paths, drawn, strict=True)):
        now = time.monotonic()
        if now - told >= _SECONDS_BETWEEN_LINES:
            left = (now - began) / number * (len(paths) - number)
            kind = classifier.task.input_kind
            logger.info("%d of %d %ss, %.0f s left", number, len(paths), kind, left)
            told = now
        yield classifier.predict(path, place)


def _rounded(shares: Tensor) -> list[float]:
    return [round(share, 6) for share in shares.tolist()]


def write(
    output: Literal["json", "csv"],
    classifier: Classifier,
    limit: Budget,
    predictions: Iterator[FilePrediction],
) -> list[str]:
    """Write one document to standard output, and return what is wrong with some files."""
    errors: list[str] = []
    done = _noting(predictions, errors)
    if output == "csv":
        _write_csv(classifier, done)
    else:
        _write_json(classifier, limit, done)
    return errors


def _noting(predictions: Iterator[FilePrediction], errors: list[str]) -> Iterator[FilePrediction]:
    for prediction in predictions:
        if prediction.error is not None:
            errors.append(prediction.error)
        yield prediction


def _write_json(
    classifier: Classifier, limit: Budget, predictions: Iterator[FilePrediction]
) -> None:
    run, row = classifier.run, classifier.row
    assert run.table is not None
    scores = [
        {"split": s.split, "value": s.value, "standard_error": s.standard_error}
        for s in run.table.scores(row)
    ]
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "run": shown(run.path),
        "budget": {"macs": limit.macs, "latency_ms": limit.latency_ms},
        "configuration": row.subnet.to_dict(),
        "macs": row.macs,
        "params": row.params,
        "latency_ms": row.latency_ms,
        "number_format": str(classifier.compute_format),
        "views": run.recipe.num_views,
        "score_name": run.table.score_name,
        "scores": scores,
        "class_names": run.info["class_names"],
        "predictions": [_plain(p, run.info["class_names"]) for p in predictions],
    }
    json.dump(document, sys.stdout, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def _plain(prediction: FilePrediction, class_names: Sequence[str]) -> dict[str, Any]:
    if prediction.error is not None:
        return {"file": prediction.file, "error": prediction.error}
    shares = prediction.probabilities
    if prediction.objects is not None:
        return {"file": prediction.file, "objects": list(prediction.objects)}
    if shares is None:
        return {"file": prediction.file, "text": list(prediction.lines)}
    best = shares.index(max(shares))
    return {
        "file": prediction.file,
        "class": class_names[best],
        "probability": shares[best],
        "probabilities": list(shares),
    }


def _write_csv(classifier: Classifier, predictions: Iterator[FilePrediction]) -> None:
    run, row = classifier.run, classifier.row
    assert run.table is not None
    names = run.info["class_names"]
    score = run.table.scores(row)[0]
    chosen = [str(row.subnet), row.macs, row.latency_ms, score.value, score.split]
    # All text is quoted: before Python 3.13 a carriage return alone would not be.
    table = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    heading = ["file", "class", "probability", "text", "error"]
    heading += ["configuration", "macs", "latency_ms", "score", "score_split"]
    columns = classifier.task.object_columns
    if columns:
        table.writerow([*heading, *columns])
        for prediction in predictions:
            rows = [{"error": prediction.error or ""}]
            if prediction.objects:
                rows = [*prediction.objects]
            for found in rows:
                cells = [found.get(name, "") for name in ("class", "probability", "text", "error")]
                values = [found.get(name, "") for name in columns]
                table.writerow([prediction.file, *cells, *chosen, *values])
        return
    table.writerow([*heading, *(f"probability of {name}" for name in names)])
    for prediction in predictions:
        found = _plain(prediction, names)
        cells = [found.get(name, "") for name in ("file", "class", "probability")]
        cells += [" ".join(found.get("text", [])), found.get("error", "")]
        table.writerow([*cells, *chosen, *(found.get("probabilities") or [""] * len(names))])
