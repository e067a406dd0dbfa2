"""From a run directory to a file that runs without it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mutualnet.cli import main
from mutualnet.export.from_run import _provenance
from mutualnet.run_directory import load_run
from mutualnet.runtime import AdaptiveRunner, Artifact
from mutualnet.table import QueryTable
from tests.small_artifact import picture

pytestmark = pytest.mark.usefixtures("place")


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


@pytest.mark.parametrize(
    ("kind", "name", "others"),
    [("onnx", "m.onnx", []), ("openvino", "m.xml", ["m.bin"]), ("torch", "m.pt2", [])],
)
def test_one_configuration_goes_by_itself(run_folder, place, kind, name, others):
    words = ["export", str(run_folder), "-o", name, "--format", kind, "--configs", "0.25x8"]
    assert main(words) == 0
    assert sorted(path.name for path in place.iterdir()) == sorted([name, *others])


def test_other_data_is_refused(run_folder, place, capsys, monkeypatch):
    run = load_run(run_folder)
    monkeypatch.setitem(run.info, "data_id", "other")
    from mutualnet.export import export_run

    with pytest.raises(ValueError, match=r"must hold the data that .* was trained on, got others"):
        export_run(run, place / "m.mutualnet")
