"""Commands that a device can run: what they print, and one line for what is wrong."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from mutualnet.cli import main
from mutualnet.runtime import Artifact
from tests.small_artifact import NAMES, picture, small_artifact


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return small_artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture
def place(whole, tmp_path, monkeypatch):
    """A folder with an artifact and two pictures, and no cache but its own."""
    monkeypatch.setenv("MUTUALNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.mutualnet").write_bytes(whole.read_bytes())
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate(("a.png", "b.jpg")):
        Image.fromarray(picture(seed)).save(tmp_path / "photos" / name)
    return tmp_path


def test_run_classifies_folders(place, capsys):
    assert main(["run", "m.mutualnet", "photos", "--threads", "1"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("configuration 1x32, ")
    assert [line.split(":")[0].strip() for line in lines] == ["photos/a.png", "photos/b.jpg"]
    assert all(line.count(" %") == 3 for line in lines)


def test_run_writes_json(place, capsys):
    assert main(["run", "m.mutualnet", "photos", "--json", "--budget", "1G"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["configuration"] == {"width_mult": 1.0, "resolution": 32}
    assert found["class_names"] == list(NAMES)
    for prediction in found["predictions"]:
        best = max(prediction["probabilities"])
        assert prediction["probability"] == best
        assert prediction["class"] == NAMES[prediction["probabilities"].index(best)]
        assert sum(prediction["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_a_broken_image_stops_no_other(place, capsys):
    (place / "photos" / "aa.png").write_text("no image")
    assert main(["run", "m.mutualnet", "photos"]) == 2
    found = capsys.readouterr()
    assert "photos/b.jpg: " in found.out
    assert found.err.startswith("mutualnet: 1 of 3 images cannot be read: photos/aa.png must be")


def test_measure_writes_times_into_the_artifact(place, capsys):
    assert main(["run", "m.mutualnet", "photos", "--budget", "9s"]) == 2
    assert "mutualnet measure m.mutualnet" in capsys.readouterr().err
    assert main(["measure", "m.mutualnet", "--runs", "5", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    table = Artifact.open("m.mutualnet").table
    for row in table.rows:
        assert row.latency_ms > 0
        assert f"\n{row.subnet} " in printed
    assert main(["run", "m.mutualnet", "photos", "--budget", "9s"]) == 0
    assert capsys.readouterr().err == ""


def test_times_of_another_device_are_told(place, capsys, monkeypatch):
    assert main(["measure", "m.mutualnet", "--runs", "5"]) == 0
    monkeypatch.setattr("mutualnet.device_commands.device_name", lambda: "another")
    assert main(["run", "m.mutualnet", "photos", "--budget", "9s"]) == 0
    assert "this is another: measure them here" in capsys.readouterr().err
    assert main(["run", "m.mutualnet", "photos", "--budget", "1G"]) == 0
    assert capsys.readouterr().err == ""


def test_info_lists_what_an_artifact_holds(place, capsys):
    assert main(["info", "m.mutualnet"]) == 0
    printed = capsys.readouterr().out
    assert "classification of 10 classes, 4 configurations, images of 32 pixels" in printed
    assert "  recipe: none" in printed
    for row in Artifact.open("m.mutualnet").table.rows:
        assert f"\n{row.subnet} " in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nothing.mutualnet", "photos"], "there is no such file"),
        (["run", "photos", "photos"], "manifest.json is missing"),
        (["run", "photos/a.png", "photos"], "it is not a whole archive"),
        (["run", "m.mutualnet", "photos", "--budget", "1K"], "no sub-network has macs"),
        (["run", "m.mutualnet", "photos", "--budget", "5"], "a budget needs a unit"),
        (["run", "m.mutualnet", "nothing.png"], "there is no image file nothing.png"),
        (["run", "m.mutualnet", "photos", "--threads", "0"], "--threads must be a whole number"),
        (["measure", "photos/a.png"], "it is not a whole archive"),
        (["info", "nothing.mutualnet"], "there is no such file"),
    ],
)
def test_mistakes_are_one_line(place, capsys, words, message):
    assert main(words) == 2
    found = capsys.readouterr().err
    assert message in found
    assert found.count("\n") == 1
