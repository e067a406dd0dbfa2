"""Prediction with a run's table, as a user types it."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mutualnet import prediction
from mutualnet.cli import main
from mutualnet.image_paths import find_images
from mutualnet.prediction import Classifier, classify
from mutualnet.run_directory import load_run
from mutualnet.table import QueryTable
from mutualnet.training.train import train
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
    (place / "SHA256SUMS").unlink()  # of the table as it was
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


@pytest.fixture
def folder(tmp_path, photo):
    """Two images, one of them deeper, among other and hidden files."""
    root = tmp_path / "photos"
    (root / "b" / ".cache").mkdir(parents=True)
    for place in (root / "z.PNG", root / "b" / "a [1].jpg", root / "b" / ".cache" / "c.png"):
        Image.open(photo).save(place)
    shutil.copy(photo, root / ".hidden.png")
    (root / "notes.txt").write_text("no image")
    return root


def test_folders_and_patterns_give_their_images_sorted(folder, photo):
    inside = [folder / "b" / "a [1].jpg", folder / "z.PNG"]
    assert list(find_images([str(folder)])) == inside
    assert list(find_images([str(photo), str(folder / "b")])) == [photo, inside[0]]
    assert list(find_images([f"{folder}/**/*"])) == inside
    assert list(find_images([f"{folder}/*.PNG"])) == inside[1:]
    assert list(find_images([str(inside[0])])) == inside[:1]  # a name that looks like a pattern
    for nothing in ("none.png", f"{folder}/*.txt", f"{folder}/b/.cache/d"):
        assert list(find_images([nothing])) == [Path(nothing)]


def _document(run, capsys, words, status=0):
    capsys.readouterr()
    assert main(["predict", str(run), *words]) == status
    return capsys.readouterr()


def test_json_is_one_document_with_all_inputs(run, folder, photo, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:100])
    words = [str(broken), str(folder), "none.png", "--json", "--budget", "10s", "--budget", "1G"]
    said = _document(run, capsys, words, status=2)
    document = json.loads(said.out)
    first, second, third, fourth = document["predictions"]
    assert "must be an image that can be read" in first["error"]
    assert fourth == {"file": "none.png", "error": "no image file none.png"}
    assert second["file"] == str(folder / "b" / "a [1].jpg")
    for found in (second, third):
        assert sum(found["probabilities"]) == pytest.approx(1, abs=1e-4)
        best = document["class_names"].index(found["class"])
        assert found["probability"] == max(found["probabilities"]) == found["probabilities"][best]
    row = load_run(run).table.top
    assert document["configuration"] == row.subnet.to_dict()
    assert document["macs"] == row.macs
    assert document["budget"] == {"macs": 1e9, "latency_ms": 1e4}
    assert [score["split"] for score in document["scores"]] == ["test", "select"]
    assert document["scores"][0]["value"] == row.test_score
    assert "2 of 4 images cannot be read" in said.err


def test_csv_has_a_line_for_every_input(run, photo, capsys):
    said = _document(run, capsys, [str(photo), "none.png", "--csv"], status=2)
    good, bad = csv.DictReader(io.StringIO(said.out))
    row = load_run(run).table.top
    assert (good["file"], bad["error"]) == (str(photo), "no image file none.png")
    assert good["configuration"] == str(row.subnet)
    assert (int(good["macs"]), float(good["score"])) == (row.macs, row.test_score)
    assert good["score_split"] == "test"
    shares = [float(good[f"probability of {number}"]) for number in range(10)]
    assert shares.index(max(shares)) == int(good["class"])
    assert bad["probability"] == bad["probability of 3"] == ""


def test_csv_quotes_what_class_names_hold(run, photo, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "SHA256SUMS").unlink()
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    content["class_names"][:3] = names = ['a,"b"', "c\rd", "e\nf"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(photo), "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out, newline=""))
    assert sum(float(row[f"probability of {name}"]) for name in names) <= 1
    assert row["file"] == str(photo)


def test_both_kinds_of_budget_must_hold(run, photo, capsys):
    rows = load_run(run).table.finished
    dearest = max(rows, key=lambda row: row.macs)
    fitting = min(rows, key=lambda row: row.macs)
    words = [str(photo), "--json", "--budget", f"{fitting.macs / 1e6 + 1e-6}M"]
    found = json.loads(_document(run, capsys, [*words, "--budget", "10s"]).out)
    assert found["configuration"] == fitting.subnet.to_dict() != dearest.subnet.to_dict()
    said = _document(run, capsys, [*words, "--budget", "1us"], status=2)
    assert "no sub-network has macs <= " in said.err
    assert "and latency_ms <= 0.001" in said.err
    assert said.out == ""


def test_long_work_is_counted_on_standard_error(run, photo, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    loaded = load_run(run)
    classifier = Classifier(loaded, loaded.table.top)
    seconds = iter(range(0, 100, 4))
    monkeypatch.setattr(prediction.time, "monotonic", lambda: next(seconds))
    assert len(list(classify(classifier, [photo] * 4))) == 4
    assert caplog.messages == ["1 of 4 images, 24 s left", "3 of 4 images, 5 s left"]


def test_the_plain_network_with_its_preprocessing_gives_the_logits_of_predict(run, photo):
    loaded = load_run(run)
    for row in loaded.table.finished:
        classifier = Classifier(loaded, row)
        plain = loaded.supernet.extract(row.subnet).eval()
        classifier.compute_format.arrange(plain)
        with Image.open(photo) as image, torch.inference_mode():
            logits = plain(loaded.preprocessing(image, row.subnet.resolution)[None])
            assert torch.equal(logits, classifier.outputs(image))


def test_a_copy_of_the_image_shows_what_was_found(run, photo, tmp_path, capsys):
    out = tmp_path / "seen.png"
    capsys.readouterr()
    assert main(["predict", str(run), str(photo), "-o", str(out)]) == 0
    assert f"written: {out}" in capsys.readouterr().out.replace("\n", "")
    with Image.open(out) as seen, Image.open(photo) as image:
        assert seen.size == image.size
        changed = np.asarray(seen).astype(int) != np.asarray(image)
    assert changed[:10].any()
    assert not changed[30:].any()


def test_copies_of_several_inputs_go_to_a_folder(run, folder, photo, tmp_path, capsys):
    shutil.copy(photo, folder / "b" / "photo.png")
    out = tmp_path / "seen"
    words = [str(photo), str(folder), "none.png", "-o", str(out), "--json"]
    assert main(["predict", str(run), *words]) == 2
    names = sorted(path.name for path in out.iterdir())
    assert names == ["a [1].jpg", "photo-2.png", "photo.png", "z.PNG"]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("photo.png", "-o must not be what is predicted on"),
        ("seen.txt", "-o must be an image that can be written, got .*seen.txt"),
    ],
)
def test_a_copy_that_cannot_be_written_is_named(run, photo, tmp_path, capsys, out, message):
    before = photo.read_bytes()
    assert main(["predict", str(run), str(photo), "-o", str(tmp_path / out)]) == 2
    assert re.search(message, capsys.readouterr().err.replace("\n", " "))
    assert photo.read_bytes() == before


def test_a_file_is_no_place_for_several_copies(run, photo, folder, tmp_path, capsys):
    (tmp_path / "seen.png").write_text("")
    words = [str(photo), str(folder), "-o", str(tmp_path / "seen.png")]
    assert main(["predict", str(run), *words]) == 2
    assert "-o must be a folder for 3 inputs" in capsys.readouterr().err.replace("\n", " ")
