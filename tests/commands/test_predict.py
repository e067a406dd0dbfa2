"""Prediction with a run's table, as a user types it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mutualnet import prediction
from mutualnet.cli import main
from mutualnet.run_directory import load_run
from mutualnet.table import QueryTable
from tests.typed import complaint


def _with_scores(digits_run, place, **scores):
    """A copy of a run whose rows all have the same scores."""
    shutil.copytree(digits_run, place)
    table = QueryTable.load(digits_run / "table.json")
    rows = [replace(row, **scores) for row in table.rows]
    QueryTable.from_rows(rows, table.meta).save(place / "table.json")
    (place / "SHA256SUMS").unlink()  # of the table as it was
    return place


def test_without_a_budget_the_cheapest_of_the_best_is_taken(digits_run, tmp_path, photo, capsys):
    place = _with_scores(digits_run, tmp_path / "run", score=32.0, test_score=None)
    capsys.readouterr()
    assert main(["predict", str(place), str(photo)]) == 0
    assert "best of all: sub-network 0.25x8," in capsys.readouterr().out


def test_the_score_of_the_test_split_comes_first_and_splits_are_named(
    digits_run, tmp_path, photo, capsys
):
    place = _with_scores(digits_run, tmp_path / "run", score=32.0, test_score=21.5)
    capsys.readouterr()
    assert main(["predict", str(place), str(photo), "--budget", "10s"]) == 0
    assert "score 21.5 on test, 32.0 on select" in capsys.readouterr().out


def test_milliseconds_of_another_device_are_named(digits_run, tmp_path, photo, caplog):
    place = tmp_path / "run"
    shutil.copytree(digits_run, place)
    table = QueryTable.load(place / "table.json")
    (place / "SHA256SUMS").unlink()
    for device, budget, is_said in (
        ("NVIDIA H200", "10s", True),
        ("NVIDIA H200", "1G", False),
        (None, "10s", False),  # tables that do not tell
    ):
        latency = {**table.meta["latency"], "device": device}
        changed = QueryTable.from_rows(table.rows, {**table.meta, "latency": latency})
        changed.save(place / "table.json")
        caplog.clear()
        assert main(["predict", str(place), str(photo), "--budget", budget]) == 0
        said = [record.getMessage() for record in caplog.records]
        assert any("latencies were measured on" in line for line in said) == is_said
        assert any("measured on NVIDIA H200, predictions" in line for line in said) == is_said
    caplog.clear()
    assert main(["predict", str(digits_run), str(photo), "--budget", "10s"]) == 0
    assert "measured on" not in caplog.text


def _document(digits_run, capsys, words, status=0):
    capsys.readouterr()
    assert main(["predict", str(digits_run), *words]) == status
    return capsys.readouterr()


def test_json_is_one_document_with_all_inputs(digits_run, photo_folder, photo, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:100])
    words = [
        str(broken),
        str(photo_folder),
        "none.png",
        "--json",
        "--budget",
        "10s",
        "--budget",
        "1G",
    ]
    said = _document(digits_run, capsys, words, status=2)
    document = json.loads(said.out)
    first, second, third, fourth = document["predictions"]
    assert "must be an image that can be read" in first["error"]
    assert fourth == {"file": "none.png", "error": "no image file none.png"}
    assert second["file"] == str(photo_folder / "b" / "a [1].jpg")
    for found in (second, third):
        assert sum(found["probabilities"]) == pytest.approx(1, abs=1e-4)
        best = document["class_names"].index(found["class"])
        assert found["probability"] == max(found["probabilities"]) == found["probabilities"][best]
    row = load_run(digits_run).table.top
    assert document["configuration"] == row.subnet.to_dict()
    assert document["macs"] == row.macs
    assert document["budget"] == {"macs": 1e9, "latency_ms": 1e4}
    assert [score["split"] for score in document["scores"]] == ["test", "select"]
    assert document["scores"][0]["value"] == row.test_score
    assert "2 of 4 images cannot be read" in said.err


def test_csv_has_a_line_for_every_input(digits_run, photo, capsys):
    said = _document(digits_run, capsys, [str(photo), "none.png", "--csv"], status=2)
    good, bad = csv.DictReader(io.StringIO(said.out))
    row = load_run(digits_run).table.top
    assert (good["file"], bad["error"]) == (str(photo), "no image file none.png")
    assert good["configuration"] == str(row.subnet)
    assert (int(good["macs"]), float(good["score"])) == (row.macs, row.test_score)
    assert good["score_split"] == "test"
    shares = [float(good[f"probability of {number}"]) for number in range(10)]
    assert shares.index(max(shares)) == int(good["class"])
    assert bad["probability"] == bad["probability of 3"] == ""


def test_csv_quotes_what_class_names_hold(digits_run, photo, tmp_path, capsys):
    shutil.copytree(digits_run, tmp_path / "run")
    (tmp_path / "run" / "SHA256SUMS").unlink()
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    content["class_names"][:3] = names = ['a,"b"', "c\rd", "e\nf"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(photo), "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out, newline=""))
    assert sum(float(row[f"probability of {name}"]) for name in names) <= 1
    assert row["file"] == str(photo)


def test_both_kinds_of_budget_must_hold(digits_run, photo, capsys):
    rows = load_run(digits_run).table.finished
    dearest = max(rows, key=lambda row: row.macs)
    fitting = min(rows, key=lambda row: row.macs)
    words = [str(photo), "--json", "--budget", f"{fitting.macs / 1e6 + 1e-6}M"]
    found = json.loads(_document(digits_run, capsys, [*words, "--budget", "10s"]).out)
    assert found["configuration"] == fitting.subnet.to_dict() != dearest.subnet.to_dict()
    said = _document(digits_run, capsys, [*words, "--budget", "1us"], status=2)
    assert "no sub-network has macs <= " in said.err
    assert "and latency_ms <= 0.001" in said.err
    assert said.out == ""


def test_predict_names_the_subnetwork_and_the_classes(digits_run, photo, capsys):
    content = json.loads((digits_run / "table.json").read_text())
    dearest = max(row["macs"] for row in content["rows"])
    for words in ([], ["--budget", f"{dearest / 1e6 + 1}M"], ["--budget", "10s"]):
        capsys.readouterr()
        assert main(["predict", str(digits_run), str(photo), str(photo), *words]) == 0
        out = capsys.readouterr().out
        assert "sub-network" in out
        assert out.count("%") == 6


def test_predictions_are_computed_in_the_format_of_the_table(
    digits_run, photo, tmp_path, monkeypatch
):
    copy = tmp_path / "run"
    shutil.copytree(digits_run, copy)
    content = json.loads((copy / "table.json").read_text())
    used = []
    (copy / "SHA256SUMS").unlink()  # the table is edited below
    inner = prediction.autocast_to
    monkeypatch.setattr(prediction, "autocast_to", lambda *a: used.append(a[0]) or inner(*a))
    for form in ("fp32 channels_last", "bf16 contiguous", None):
        content["meta"]["format"] = form
        if form is None:  # as older tables are
            del content["meta"]["format"]
        (copy / "table.json").write_text(json.dumps(content))
        assert main(["predict", str(copy), str(photo)]) == 0
    assert used == [None, torch.bfloat16, None]


def test_a_budget_is_kept(digits_run, photo, capsys):
    rows = json.loads((digits_run / "table.json").read_text())["rows"]
    macs = sorted(row["macs"] for row in rows)[2]
    assert main(["predict", str(digits_run), str(photo), "--budget", f"{macs / 1e6 + 1e-6}M"]) == 0
    chosen = capsys.readouterr().out.split("sub-network ")[1].split(",")[0]
    width, side = chosen.split("x")
    (row,) = [
        r
        for r in rows
        if f"{r['subnet']['width_mult']:.4g}" == width and str(r["subnet"]["resolution"]) == side
    ]
    assert row["macs"] <= macs + 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "1"], "a budget needs a unit"),
        (["--budget", "8parsecs"], "the unit of a budget must be"),
        (["--budget", "-5M"], "a budget must be > 0 and finite, got '-5M'"),
        (["--budget=-5M"], "a budget must be > 0 and finite, got '-5M'"),
        (["--budget"], "--budget needs one value. See `mutualnet predict --help`"),
        (["--budget", "1K"], "no sub-network has macs <= 1,000; the cheapest is 0.25x8"),
    ],
)
def test_a_bad_budget_gets_one_line(digits_run, photo, capsys, words, message):
    assert message in complaint(capsys, ["predict", str(digits_run), str(photo), *words])


def test_bad_images_are_named_after_the_others_are_classified(digits_run, photo, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:100])
    words = ["predict", str(digits_run), str(photo), "none.png", str(broken), str(photo)]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out.count(f"{photo}: ") == 2
    assert captured.err.startswith("mutualnet: 2 of 4 images cannot be read: no image file none.p")
    assert f"{broken} must be an image" in captured.err


def test_missing_and_broken_files_get_one_line(digits_run, photo, tmp_path, capsys):
    assert "no image file none.png" in complaint(capsys, ["predict", str(digits_run), "none.png"])
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:100])
    assert "must be an image that can be read" in complaint(
        capsys, ["predict", str(digits_run), str(broken)]
    )
    assert "must be a run directory" in complaint(capsys, ["predict", "nowhere", str(photo)])
    assert "must be a run directory" in complaint(capsys, ["table", "nowhere"])
    assert "has no config.yaml" in complaint(capsys, ["table", str(tmp_path)])


def test_a_table_comes_before_a_prediction(tmp_path, photo, capsys):
    out = tmp_path / "a run"
    words = ["train", "digits_demo", "--out", str(out), "--limit-steps", "1", "--set"]
    words += ["space.resolutions=[12]", "compute.precision=fp32"]
    assert main([*words, "compute.memory_format=contiguous"]) == 0
    make_it = f"mutualnet table '{out}'"
    assert f"next: {make_it}" in capsys.readouterr().out
    assert f"has no query table yet. Make it: {make_it}" in complaint(
        capsys, ["predict", str(out), str(photo)]
    )


def test_a_copy_of_the_image_shows_what_was_found(digits_run, photo, tmp_path, capsys):
    out = tmp_path / "seen.png"
    capsys.readouterr()
    assert main(["predict", str(digits_run), str(photo), "-o", str(out)]) == 0
    assert f"written: {out}" in capsys.readouterr().out.replace("\n", "")
    with Image.open(out) as seen, Image.open(photo) as image:
        assert seen.size == image.size
        changed = np.asarray(seen).astype(int) != np.asarray(image)
    assert changed[:10].any()
    assert not changed[30:].any()


def test_copies_of_several_inputs_go_to_a_folder(digits_run, photo_folder, photo, tmp_path, capsys):
    shutil.copy(photo, photo_folder / "b" / "photo.png")
    out = tmp_path / "seen"
    words = [str(photo), str(photo_folder), "none.png", "-o", str(out), "--json"]
    assert main(["predict", str(digits_run), *words]) == 2
    names = sorted(path.name for path in out.iterdir())
    assert names == ["a [1].jpg", "photo-2.png", "photo.png", "z.PNG"]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("photo.png", "-o must not write over what is predicted on, got .*photo.png"),
        ("seen.txt", "-o must be an image that can be written, got .*seen.txt"),
    ],
)
def test_a_copy_that_cannot_be_written_is_named(digits_run, photo, tmp_path, capsys, out, message):
    before = photo.read_bytes()
    assert main(["predict", str(digits_run), str(photo), "-o", str(tmp_path / out)]) == 2
    assert re.search(message, capsys.readouterr().err.replace("\n", " "))
    assert photo.read_bytes() == before


@pytest.mark.parametrize("is_link", [False, True])
def test_a_copy_is_not_written_over_another_input(digits_run, photo, tmp_path, capsys, is_link):
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
        shutil.copy(photo, folder / "x.png")
    if is_link:
        folders[1].joinpath("x.png").rename(tmp_path / "y.png")
        folders[1].joinpath("x.png").symlink_to(tmp_path / "y.png")
    inputs = [folders[0] / "x.png", tmp_path / "y.png" if is_link else folders[1] / "x.png"]
    words = ["predict", str(digits_run), *map(str, inputs), "-o", str(folders[1])]
    assert "-o must not write over what is predicted on" in complaint(capsys, words)
    assert inputs[1].read_bytes() == photo.read_bytes()
    assert [path.name for path in folders[1].iterdir()] == ["x.png"]


def test_a_file_is_no_place_for_several_copies(digits_run, photo, photo_folder, tmp_path, capsys):
    (tmp_path / "seen.png").write_text("")
    words = [str(photo), str(photo_folder), "-o", str(tmp_path / "seen.png")]
    assert main(["predict", str(digits_run), *words]) == 2
    assert "-o must be a folder for 3 inputs" in capsys.readouterr().err.replace("\n", " ")
