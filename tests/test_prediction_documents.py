"""Documents of predictions: the same from a run and from an artifact."""

from __future__ import annotations

import csv
import io
import json

import pytest

from mutualnet.budget import Budget
from mutualnet.prediction_documents import FilePrediction, Predictor, write
from mutualnet.space import Subnet
from mutualnet.table import QueryTable, Row

ROW = Row(
    subnet=Subnet(width_mult=0.5, resolution=32),
    score=80.0,
    standard_error=1.5,
    num_samples=100,
    macs=2_000_000,
    params=1000,
    latency_ms=0.5,
)


def predictor(**more):
    return Predictor(
        source={"artifact": "m.mutualnet"},
        table=QueryTable.from_rows([ROW], {"score_name": "top-1 accuracy (%)"}),
        row=ROW,
        limit=Budget(macs=3_000_000),
        class_names=("cat", "dog"),
        **more,
    )


def written(capsys, output, predictions, **more):
    errors = write(output, predictor(**more), iter(predictions))
    return capsys.readouterr().out, errors


PREDICTIONS = (
    FilePrediction(file="a.png", probabilities=(0.25, 0.75), lines=("dog 75.0 %, cat 25.0 %",)),
    FilePrediction(file="b.png", error="no image file b.png"),
)


def test_json_tells_who_predicts_and_what(capsys):
    text, errors = written(capsys, "json", PREDICTIONS, details={"views": 1})
    document = json.loads(text)
    assert errors == ["no image file b.png"]
    first, second = document.pop("predictions")
    assert first == {
        "file": "a.png",
        "class": "dog",
        "probability": 0.75,
        "probabilities": [0.25, 0.75],
    }
    assert second == {"file": "b.png", "error": "no image file b.png"}
    assert document == {
        "format": "mutualnet.predictions",
        "format_version": 1,
        "artifact": "m.mutualnet",
        "budget": {"macs": 3_000_000, "latency_ms": None},
        "configuration": {"width_mult": 0.5, "resolution": 32},
        "macs": 2_000_000,
        "params": 1000,
        "latency_ms": 0.5,
        "views": 1,
        "score_name": "top-1 accuracy (%)",
        "scores": [{"split": "select", "value": 80.0, "standard_error": 1.5}],
        "class_names": ["cat", "dog"],
    }


def test_csv_has_a_line_for_every_file(capsys):
    text, errors = written(capsys, "csv", PREDICTIONS)
    good, bad = csv.DictReader(io.StringIO(text))
    assert errors == ["no image file b.png"]
    assert (good["class"], good["probability of cat"], good["score"]) == ("dog", "0.25", "80.0")
    assert (good["configuration"], good["latency_ms"]) == ("0.5x32", "0.5")
    assert bad["error"] == "no image file b.png"
    assert bad["class"] == bad["probability of dog"] == ""


def test_csv_of_objects_has_a_line_for_each(capsys):
    objects = ({"class": "cat", "probability": 0.5, "x": 1.0}, {"class": "dog", "x": 2.0})
    predictions = [FilePrediction(file="a.png", objects=objects), FilePrediction(file="b.png")]
    text, _ = written(capsys, "csv", predictions, object_columns=("x",))
    rows = [(row["file"], row["class"], row["x"]) for row in csv.DictReader(io.StringIO(text))]
    assert rows == [("a.png", "cat", "1.0"), ("a.png", "dog", "2.0"), ("b.png", "", "")]


@pytest.mark.parametrize("output", ["json", "csv"])
def test_the_likeliest_class_is_found_before_numbers_are_rounded(capsys, output):
    shares = (1 - 4e-7, 1 - 1e-7)  # of labels, each by itself
    text, _ = written(capsys, output, [FilePrediction(file="a.png", probabilities=shares)])
    rows = csv.DictReader(io.StringIO(text))
    (prediction,) = json.loads(text)["predictions"] if output == "json" else rows
    assert prediction["class"] == "dog"
    assert float(prediction["probability"]) == 1
