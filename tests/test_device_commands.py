"""Commands that a device can run: what they print, and one line for what is wrong."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mutualnet.cli import main
from mutualnet.device_commands import _Compared
from mutualnet.runtime import AdaptiveRunner, Artifact, ArtifactError
from mutualnet.runtime.scoring import top_one_accuracy
from mutualnet.table import QueryTable, SplitScore
from tests.small_artifact import NAMES, SUBNETS, picture, small_artifact


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


def test_run_writes_csv_with_a_line_for_every_image(place, capsys):
    (place / "photos" / "aa.png").write_text("no image")
    assert main(["run", "m.mutualnet", "photos", "--csv"]) == 2
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["file"] for row in found] == ["photos/a.png", "photos/aa.png", "photos/b.jpg"]
    assert "photos/aa.png must be an image that can be read" in found[1]["error"]
    assert main(["run", "m.mutualnet", "photos/a.png", "photos/b.jpg", "--json"]) == 0
    predictions = json.loads(capsys.readouterr().out)["predictions"]
    for row, prediction in zip([found[0], found[2]], predictions, strict=True):
        shares = [float(row[f"probability of {name}"]) for name in NAMES]
        assert (row["configuration"], row["class"]) == ("1x32", prediction["class"])
        assert shares == prediction["probabilities"]


def test_a_broken_image_stops_no_other(place, capsys):
    (place / "photos" / "aa.png").write_text("no image")
    assert main(["run", "m.mutualnet", "photos"]) == 2
    found = capsys.readouterr()
    assert "photos/b.jpg: " in found.out
    assert found.err.startswith("mutualnet: 1 of 3 images cannot be read: photos/aa.png must be")


def test_an_image_that_gives_no_numbers_stops_no_other(place, capsys, monkeypatch):
    logits = AdaptiveRunner.logits

    def nan_first(runner, inputs, subnet):
        is_first = np.array_equal(inputs[0], runner.inputs("photos/a.png"))
        return logits(runner, inputs, subnet) * (np.nan if is_first else 1)

    monkeypatch.setattr(AdaptiveRunner, "logits", nan_first)
    assert main(["run", "m.mutualnet", "photos", "--json"]) == 2
    said = capsys.readouterr()
    first, second = json.loads(said.out)["predictions"]
    assert "computes NaN" in first["error"]
    assert second["class"] in NAMES
    assert "photos/a.png must give finite probabilities" in said.err


def test_a_graph_that_does_not_run_is_told_once_and_not_of_the_images(place, capsys, monkeypatch):
    loads = []

    def fail(artifact, configuration, threads):
        loads.append(configuration)
        raise ArtifactError("the graph of 1x32 does not run in ONNX Runtime")

    monkeypatch.setattr("mutualnet.runtime.sessions.load_session", fail)
    for words in ([], ["--json"]):
        assert main(["run", "m.mutualnet", "photos", *words]) == 2
        error = capsys.readouterr().err
        assert error == "mutualnet: the graph of 1x32 does not run in ONNX Runtime\n"
    assert len(loads) == 2


def test_a_budget_of_time_without_times_is_the_only_thing_told(place, labelled, capsys):
    words = ["evaluate", "m.mutualnet", "data", "--budget", "8ms"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("mutualnet: a budget of 8 ms needs measured latencies")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("right", "count", "table", "error", "differs"),
    [
        (10, 10, 95.6, 1.0, False),
        (0, 3, 20.0, 1.0, False),
        (10, 10, 50.0, 1.0, True),
        (200, 200, 95.6, 1.0, True),
        (48, 50, 100.0, 0.0, False),
        (50, 50, 100.0, 0.0, False),
        (0, 50, 100.0, 0.0, True),
        (60, 100, 70.0, 1.0, True),
        (65, 100, 70.0, 1.0, False),
    ],
)
def test_scores_of_few_images_differ_only_where_that_is_no_chance(
    right, count, table, error, differs
):
    here = top_one_accuracy(np.arange(count) < right, np.ones(count, bool))
    there = SplitScore(value=table, standard_error=error, split="select")
    compared = _Compared(subnet=SUBNETS[0], here=here, there=there, is_share=True)
    assert compared.differs == differs


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


def test_times_of_larger_batches_are_told(place, capsys):
    assert main(["measure", "m.mutualnet", "--runs", "5", "--batch", "2"]) == 0
    assert main(["run", "m.mutualnet", "photos", "--budget", "9s"]) == 0
    assert "latencies are those of 2 at a time, and so is the budget" in capsys.readouterr().err
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


@pytest.fixture
def labelled(place):
    """Three images of each class."""
    for label, name in enumerate(NAMES):
        (place / "data" / name).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(picture(3 * label + number))
            image.save(place / "data" / name / f"{number}.png")
    return place / "data"


def _give_scores(place, **values):
    """Let the table claim other scores."""
    artifact = Artifact.open(place / "m.mutualnet")
    rows = [replace(row, **values) for row in artifact.table.rows]
    artifact.with_table(QueryTable.from_rows(rows, artifact.table.meta))


def test_evaluate_prints_every_score_beside_the_tables(place, labelled, capsys):
    _give_scores(place, score=99.0, standard_error=0.5)
    assert main(["evaluate", "m.mutualnet", "data", "--threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score_name"] == "top-1 accuracy (%)"
    assert found["left_out"] == []
    assert main(["evaluate", "m.mutualnet", "data", "--threads", "1"]) == 0
    first, _, *lines, last = capsys.readouterr().out.splitlines()
    assert first == "top-1 accuracy (%) on 30 images of data"
    assert len(lines) == len(found["scores"]) == 4
    for line, score in zip(lines, found["scores"], strict=True):
        here = f"{score['score']:.1f} ± {score['standard_error']:.1f}"
        assert f" {here} " in line
        assert "99.0 ± 0.5 on select" in line
        assert line.endswith(f"{score['score'] - 99:+.1f}")
        assert score["differs"]
        assert line.split()[0] in last
    assert last.startswith("more than two standard errors of the difference from the table: ")


def test_evaluate_says_where_nothing_differs(place, labelled, capsys):
    _give_scores(place, score=10.0, standard_error=90.0)
    assert main(["evaluate", "m.mutualnet", "data"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "no score is more than two standard errors of the difference from the table's"


def test_evaluate_compares_with_the_test_score_where_there_is_one(place, labelled, capsys):
    _give_scores(place, test_score=42.0, test_standard_error=1.0)
    assert main(["evaluate", "m.mutualnet", "data"]) == 0
    assert "42.0 ± 1.0 on test" in capsys.readouterr().out


def test_evaluate_scores_what_was_asked_for(place, labelled, capsys):
    words = ["evaluate", "m.mutualnet", "data", "--json"]
    assert main([*words, "--configs", "1x32, 0.25x24"]) == 0
    found = json.loads(capsys.readouterr().out)["scores"]
    assert [s["configuration"]["width_mult"] for s in found] == [0.25, 1.0]
    assert main([*words, "--budget", "1G"]) == 0
    (best,) = json.loads(capsys.readouterr().out)["scores"]
    assert best["configuration"]["width_mult"] == 1.0


def test_evaluate_leaves_broken_images_out_and_says_so(place, labelled, capsys):
    (labelled / "c" / "1.png").write_text("no image")
    assert main(["evaluate", "m.mutualnet", "data"]) == 2
    found = capsys.readouterr()
    assert found.out.startswith("top-1 accuracy (%) on 29 images of data")
    begun, named, last = found.err.splitlines()
    assert begun == "scoring 4 configurations ..."
    assert named.startswith("left out: data/c/1.png must be an image that can be read")
    assert last.startswith("mutualnet: 1 of 30 images cannot be read and were left out: data/c/1")


def test_evaluate_tells_how_far_it_is(place, labelled, capsys, monkeypatch):
    monkeypatch.setattr("mutualnet.device_commands._SECONDS_BETWEEN_LINES", -1.0)
    monkeypatch.setattr("mutualnet.runtime.scoring._MOST_AT_ONCE", 16)
    assert main(["evaluate", "m.mutualnet", "data"]) == 0
    assert "\n16 of 30 images ..., about 0 s left\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m.mutualnet", "nothing"], "labelled images must be a folder or an .npz file, got nothi"),
        (["m.mutualnet", "photos"], "must have the artifact's 10 classes"),
        (["m.mutualnet", "data", "--configs", "1x99"], "--configs must name configurations of the"),
        (["m.mutualnet", "data", "--configs", ","], "--configs must name configurations of the"),
        (["m.mutualnet", "data", "--budget", "1K"], "no sub-network has macs"),
        (["m.mutualnet", "data", "--budget", "1M", "--configs", "1x32"], "not allowed with"),
        (["nothing.mutualnet", "data"], "there is no such file"),
    ],
)
def test_mistakes_of_evaluate_are_one_line(place, labelled, capsys, words, message):
    assert main(["evaluate", *words]) == 2
    found = capsys.readouterr()
    assert message in found.err
    assert found.err.count("\n") == 1
    assert found.out == ""


def test_measured_times_are_shown_even_where_they_cannot_be_kept(place, capsys, monkeypatch):
    def refuse(self, table):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Artifact, "with_table", refuse)
    assert main(["measure", "m.mutualnet", "--runs", "5"]) == 2
    found = capsys.readouterr()
    assert "\n1x32 " in found.out
    assert "which must be writable, got Permission denied. Copy it to a folder" in found.err


def test_info_tells_what_it_knows_of_latencies(place, capsys):
    artifact = Artifact.open(place / "m.mutualnet")
    about = {**artifact.table.meta, "latency": {"device": "x"}}
    artifact.with_table(QueryTable.from_rows(artifact.table.rows, about))
    assert main(["info", "m.mutualnet"]) == 0
    assert "latencies: x, threads: unknown, batch: unknown" in capsys.readouterr().out
