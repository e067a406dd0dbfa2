"""What files show, written for programs: one JSON document or one CSV table."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mutualnet.budget import Budget
from mutualnet.table import QueryTable, Row

Output = Literal["text", "json", "csv"]
"""Lines for people, or a document for programs."""

FORMAT, FORMAT_VERSION = "mutualnet.predictions", 1


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


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Who predicts: what all predictions of a document share."""

    source: Mapping[str, str]
    """`run` or `artifact`, and its path."""
    table: QueryTable
    row: Row
    """The configuration that predicts."""
    limit: Budget
    """What it was chosen by."""
    class_names: Sequence[str]
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else a JSON document tells."""
    object_columns: tuple[str, ...] = ()
    """Of a CSV table with one line for each object; none where the task finds no objects."""


def write(
    output: Literal["json", "csv"], predictor: Predictor, predictions: Iterator[FilePrediction]
) -> list[str]:
    """Write one document to standard output, and return what is wrong with some files."""
    errors: list[str] = []
    done = _noting(predictions, errors)
    if output == "csv":
        _write_csv(predictor, done)
    else:
        _write_json(predictor, done)
    return errors


def _noting(predictions: Iterator[FilePrediction], errors: list[str]) -> Iterator[FilePrediction]:
    for prediction in predictions:
        if prediction.error is not None:
            errors.append(prediction.error)
        yield prediction


def _write_json(predictor: Predictor, predictions: Iterator[FilePrediction]) -> None:
    row, names = predictor.row, list(predictor.class_names)
    scores = [
        {"split": s.split, "value": s.value, "standard_error": s.standard_error}
        for s in predictor.table.scores(row)
    ]
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **predictor.source,
        "budget": {"macs": predictor.limit.macs, "latency_ms": predictor.limit.latency_ms},
        "configuration": row.subnet.to_dict(),
        "macs": row.macs,
        "params": row.params,
        "latency_ms": row.latency_ms,
        **predictor.details,
        "score_name": predictor.table.score_name,
        "scores": scores,
        "class_names": names,
        "predictions": [_plain(prediction, names) for prediction in predictions],
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
    best = shares.index(max(shares))  # before rounding, which makes ties of saturated ones
    rounded = [round(share, 6) for share in shares]
    return {
        "file": prediction.file,
        "class": class_names[best],
        "probability": rounded[best],
        "probabilities": rounded,
    }


def _write_csv(predictor: Predictor, predictions: Iterator[FilePrediction]) -> None:
    row, names = predictor.row, predictor.class_names
    score = predictor.table.scores(row)[0]
    chosen = [str(row.subnet), row.macs, row.latency_ms, score.value, score.split]
    # All text is quoted: before Python 3.13 a carriage return alone would not be.
    table = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    heading = ["file", "class", "probability", "text", "error"]
    heading += ["configuration", "macs", "latency_ms", "score", "score_split"]
    columns = predictor.object_columns
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
