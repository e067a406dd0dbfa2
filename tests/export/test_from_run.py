"""From a run directory to a file that runs without it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives import serialization as formats
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from mutualnet.cli import main
from mutualnet.export.from_run import _provenance
from mutualnet.run_directory import load_run
from mutualnet.runtime import AdaptiveRunner, Artifact
from mutualnet.table import QueryTable
from mutualnet.training import train
from tests.small_artifact import picture
from tests.small_runs import digits


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of an epoch with its table."""
    place = tmp_path_factory.mktemp("run") / "run"
    recipe = digits(
        "space.width_step=0.375", "table.latency_runs=0", "table.num_calibration_samples=64"
    )
    train(recipe, place, limit_steps=4)
    assert main(["table", str(place), "--full"]) == 0
    return place


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("MUTUALNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_artifact_predicts_what_the_run_does(run_folder, capsys):
    assert main(["export", str(run_folder), "-o", "m.mutualnet", "--configs", "all"]) == 0
    printed = capsys.readouterr().out
    run, runner = load_run(run_folder), AdaptiveRunner("m.mutualnet")
    assert {row.subnet for row in runner.artifact.table.rows} == {
        row.subnet for row in run.table.rows
    }
    for row in run.table.rows:
        assert re.search(rf"exported {row.subnet} \(\d of {len(run.table.rows)}\)", printed)
        module = run.supernet.extract(row.subnet).eval()
        image = picture(3)
        with torch.inference_mode():
            inputs = run.preprocessing(Image.fromarray(image), row.subnet.resolution)
            expected = module(inputs[None]).softmax(1)[0].numpy()
        (found,) = runner.run(image, row.subnet)
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
        kept = runner.artifact.table.row(row.subnet)
        assert (kept.score, kept.test_score) == (row.score, row.test_score)
        assert kept.latency_ms > 0  # measured by ONNX Runtime on the way
    about = runner.artifact.manifest.provenance
    assert about["weights_sha256"] == run.supernet.weights_hash()
    assert about["space"]["resolutions"] == list(run.recipe.space.resolutions)
    assert about["data_id"] == run.info["data_id"]
    assert runner.artifact.table.select_split == run.table.select_split


def test_the_provenance_names_the_format_that_was_scored_in(run_folder):
    run = load_run(run_folder)
    other = {"scoring_format": "bf16 channels_last", "format": "fp32 contiguous"}
    raced = replace(run, table=QueryTable.from_rows(run.table.rows, run.table.meta | other))
    assert _provenance(raced)["table_scored_in"] == "bf16 channels_last"
    older = {name: value for name, value in raced.table.meta.items() if name != "scoring_format"}
    kept = replace(run, table=QueryTable.from_rows(run.table.rows, older))
    assert _provenance(kept)["table_scored_in"] == "fp32 contiguous"


def test_configurations_are_named(run_folder):
    words = ["export", str(run_folder), "--no-measure", "-o", "m.mutualnet", "--configs"]
    assert main([*words, "1x8,0.25x12"]) == 0
    artifact = Artifact.open("m.mutualnet")
    assert {str(row.subnet) for row in artifact.table.rows} == {"1x8", "0.25x12"}
    assert all(row.latency_ms is None for row in artifact.table.rows)
    assert main([*words, "1"]) == 0
    assert (
        Artifact.open("m.mutualnet").table.rows[0].subnet == load_run(run_folder).table.top.subnet
    )


def test_the_file_is_named_like_the_run(run_folder, place):
    assert main(["export", str(run_folder), "--no-measure", "--configs", "1"]) == 0
    assert (place / "run.mutualnet").is_file()


@pytest.mark.parametrize(
    ("kind", "name", "others"),
    [("onnx", "m.onnx", []), ("openvino", "m.xml", ["m.bin"]), ("torch", "m.pt2", [])],
)
def test_one_configuration_goes_by_itself(run_folder, place, kind, name, others):
    words = ["export", str(run_folder), "-o", name, "--format", kind, "--configs", "0.25x8"]
    assert main(words) == 0
    assert sorted(path.name for path in place.iterdir()) == sorted([name, *others])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--configs", "best"], "--configs must be front, all, a count, or names"),
        (["--configs", "0.3x12"], "--configs must be front, all, a count, or names"),
        (["--configs", "0"], "at least one configuration must be exported, got 0"),
        (["--configs", "²"], "--configs must be front, all, a count, or names"),
        (["--configs=--5"], "--configs must be front, all, a count, or names"),
        (["--configs", ","], "--configs must be front, all, a count, or names"),
        (["-o", "m.onnx"], "--out must end in .mutualnet, got m.onnx"),
        (["-o", "no/m.mutualnet"], "--out must lie in a folder that is there"),
        (["--format", "onnx", "-o", "m.onnx", "--configs", "all"], "is for one configuration"),
        (["--format", "onnx", "-o", "m.mutualnet"], "--out must end in .onnx"),
        (["--format", "tflite"], "--format"),
    ],
)
def test_mistakes_are_one_line(run_folder, place, capsys, words, message):
    assert main(["export", str(run_folder), "--no-measure", *words]) == 2
    found = capsys.readouterr().err
    assert message in found
    assert found.count("\n") == 1
    assert list(place.iterdir()) == []


def test_a_run_without_a_table_says_how_to_make_it(place, capsys):
    train(digits(), place / "young", limit_steps=1)
    capsys.readouterr()
    assert main(["export", "young"]) == 2
    assert "Make it: mutualnet table young" in capsys.readouterr().err


def test_other_data_is_refused(run_folder, place, capsys, monkeypatch):
    run = load_run(run_folder)
    monkeypatch.setitem(run.info, "data_id", "other")
    from mutualnet.export import export_run

    with pytest.raises(ValueError, match=r"must hold the data that .* was trained on, got others"):
        export_run(run, place / "m.mutualnet")


def test_an_artifact_is_signed_by_its_maker(run_folder, place, capsys):
    key = Ed25519PrivateKey.generate()
    (place / "maker").write_bytes(
        key.private_bytes(
            formats.Encoding.PEM, formats.PrivateFormat.OpenSSH, formats.NoEncryption()
        )
    )
    (place / "maker.pub").write_bytes(
        key.public_key().public_bytes(formats.Encoding.OpenSSH, formats.PublicFormat.OpenSSH)
    )
    words = ["export", str(run_folder), "-o", "m.mutualnet", "--configs", "1", "--no-measure"]
    assert main([*words, "--sign", "maker.pub"]) == 2
    assert "maker.pub must hold a private Ed25519 key" in capsys.readouterr().err
    assert not (place / "m.mutualnet").exists()
    assert main([*words, "--sign", "maker"]) == 0
    assert Artifact.open("m.mutualnet", public_key=place / "maker.pub").signature is not None
    assert main([*words[:2], "--format", "onnx", "--configs", "1x8", "--sign", "maker"]) == 2
    assert "--sign is for artifacts, got --format onnx" in capsys.readouterr().err
