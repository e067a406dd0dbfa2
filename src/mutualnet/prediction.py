"""Image files in, classes out: by one sub-network of a run, for people or for programs."""

from __future__ import annotations

import csv
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from mutualnet.budget import Budget
from mutualnet.image_paths import shown
from mutualnet.messages import reason_of
from mutualnet.precision import PLAIN, ComputeFormat, autocast_to
from mutualnet.run_directory import Run
from mutualnet.table import QueryTable, Row
from mutualnet.training import plain_task

logger = logging.getLogger(__name__)

Output = Literal["text", "json", "csv"]

FORMAT, FORMAT_VERSION = "mutualnet.predictions", 1
_SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True, kw_only=True)
class FilePrediction:
    """What a network says about an image file, or why it was not asked."""

    file: str
    lines: tuple[str, ...] = ()
    """For people."""
    probabilities: tuple[float, ...] | None = None
    """Of every class, where the task has some."""
    error: str | None = None
    """Why the file cannot be read."""


def choose_row(run: Run, limit: Budget) -> Row:
    """The best sub-network within a budget, of equals the cheapest.

    Raises:
        ValueError: If the run has no table, or nothing meets the budget.
    """
    if run.table is None:
        raise ValueError(f"{run.path} has no query table yet. Make it: mutualnet table {run.path}")
    if limit == Budget():
        return run.table.top
    return run.table.best(macs=limit.macs, latency_ms=limit.latency_ms)


def table_format(table: QueryTable) -> ComputeFormat:
    """The format that a table's latencies were measured in; fp32 in the oldest tables."""
    return ComputeFormat.parse(table.meta.get("format", str(PLAIN)))


class Classifier:
    """One sub-network of a run by itself, ready for images.

    Args:
        run: With its table.
        row: Which sub-network.
    """

    def __init__(self, run: Run, row: Row) -> None:
        assert run.table is not None
        self.run, self.row = run, row
        self.compute_format, self.task = table_format(run.table), plain_task(run.recipe)
        self._module = run.supernet.extract(row.subnet).eval()
        self._module.to(memory_format=self.compute_format.layout)  # type: ignore[call-overload]

    def outputs(self, image: Image.Image) -> Any:
        """What the network gives for an image of any mode or size; logits (1, K) as a rule."""
        return self._run(self.run.preprocessing(image))

    def _run(self, pixels: Tensor) -> Any:
        batch = self.task.scale((pixels[None], torch.zeros(1, dtype=torch.long)), self.row.subnet)
        with torch.inference_mode(), autocast_to(self.compute_format.autocast, pixels.device):
            return self._module(self.task.inputs(batch))

    def predict(self, path: Path) -> FilePrediction:
        """Classify a file. One that cannot be read gives an `error` that names it."""
        file = shown(path)
        if not path.is_file():
            kind = "image in" if path.is_dir() else "image file"
            return FilePrediction(file=file, error=f"no {kind} {file}")
        try:
            with Image.open(path) as image:
                pixels = self.run.preprocessing(image)
        except Exception as error:  # Pillow's decoders raise anything on a broken file
            reason = reason_of(error)
            text = f"{file} must be an image that can be read, got {reason}"
            return FilePrediction(file=file, error=text)
        outputs = self._run(pixels)
        shares = self.task.probabilities(outputs)
        return FilePrediction(
            file=file,
            lines=tuple(self.task.describe(outputs, self.run.info["class_names"])),
            probabilities=None if shares is None else tuple(_rounded(shares[0])),
        )


def classify(classifier: Classifier, paths: Sequence[Path]) -> Iterator[FilePrediction]:
    """Classify files one after the other; long work is counted in the log."""
    told = began = time.monotonic()
    for number, path in enumerate(paths):
        now = time.monotonic()
        if now - told >= _SECONDS_BETWEEN_LINES:
            left = (now - began) / number * (len(paths) - number)
            logger.info("%d of %d images, %.0f s left", number, len(paths), left)
            told = now
        yield classifier.predict(path)


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
    table.writerow([*heading, *(f"probability of {name}" for name in names)])
    for prediction in predictions:
        found = _plain(prediction, names)
        cells = [found.get(name, "") for name in ("file", "class", "probability")]
        cells += [" ".join(found.get("text", [])), found.get("error", "")]
        table.writerow([*cells, *chosen, *(found.get("probabilities") or [""] * len(names))])
