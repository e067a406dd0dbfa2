"""Prediction with a run's table, as a user types it."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mutualnet.cli import main
from mutualnet.table import QueryTable
from mutualnet.train import train
from tests.small_runs import digits


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A digits run of two steps with a table of four sub-networks."""
    out = tmp_path_factory.mktemp("runs") / "run"
    settings = ["space.width_step=0.75", "table.num_calibration_samples=64", "table.latency_runs=2"]
    train(digits(*settings), out, limit_steps=2)
    assert main(["table", str(out)]) == 0
    return out


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _with_scores(run, place, **scores):
    """A copy of a run whose rows all have the same scores."""
    shutil.copytree(run, place)
    table = QueryTable.load(run / "table.json")
    rows = [replace(row, **scores) for row in table.rows]
    QueryTable.from_rows(rows, table.meta).save(place / "table.json")
    return place


def test_without_a_budget_the_cheapest_of_the_best_is_taken(run, tmp_path, photo, capsys):
    place = _with_scores(run, tmp_path / "run", score=32.0, test_score=None)
    capsys.readouterr()
    assert main(["predict", str(place), str(photo)]) == 0
    assert "best of all: sub-network 0.25x8," in capsys.readouterr().out


def test_the_score_of_the_test_split_comes_first_and_splits_are_named(run, tmp_path, photo, capsys):
    place = _with_scores(run, tmp_path / "run", score=32.0, test_score=21.5)
    capsys.readouterr()
    assert main(["predict", str(place), str(photo), "--budget", "10s"]) == 0
    assert "score 21.5 on test, 32.0 on select" in capsys.readouterr().out
