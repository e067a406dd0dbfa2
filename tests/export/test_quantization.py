"""INT8 variants of a trained network: scores, the front, and what is stored."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import onnx
import pytest

from mutualnet.cli import main
from mutualnet.export import keep_front
from mutualnet.run_directory import load_run
from mutualnet.runtime import AdaptiveRunner, Artifact
from mutualnet.space import INT8, Subnet
from mutualnet.table import QueryTable
from mutualnet.training import load_splits, train
from tests.small_runs import digits


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A network that was trained until it tells most digits."""
    place = tmp_path_factory.mktemp("run") / "run"
    recipe = digits(
        "optimizer.epochs=8",
        "space.width_step=0.75",
        "table.latency_runs=0",
        "table.num_calibration_samples=256",
    )
    train(recipe, place)
    assert main(["table", str(place), "--full"]) == 0
    return place


@pytest.fixture(scope="module")
def exported(run_folder, tmp_path_factory):
    """An artifact with all variants, and what was printed."""
    place = tmp_path_factory.mktemp("artifact") / "m.mutualnet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mutualnet.export.keep_front", lambda artifact, say: None)
        words = ["export", str(run_folder), "-o", str(place), "--configs", "all", "--int8"]
        assert main(words) == 0
    return place


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MUTUALNET_CACHE", str(tmp_path / "cache"))


def _pairs(table: QueryTable):
    plain = [row for row in table.rows if row.subnet.precision is None]
    assert len(plain) == 4
    assert len(table.rows) == 8
    return [(row, table.row(replace(row.subnet, precision=INT8))) for row in plain]


def test_a_trained_network_keeps_its_accuracy_within_a_point(exported, run_folder):
    data, runner = load_splits(load_run(run_folder).recipe), AdaptiveRunner(exported, threads=1)
    # All 719 that were held out: of the 269 select images alone three are more than a point.
    held_out = [(split, index) for split in (data.select, data.test) for index in range(len(split))]
    images = np.stack([np.asarray(split[index][0]) for split, index in held_out])
    labels = np.concatenate([data.select.labels, data.test.labels])
    table = runner.artifact.table
    assert table.top.score > 90
    for plain, quantised in _pairs(table):
        before, after = (
            100 * float((runner.logits(images, row.subnet).argmax(1) == labels).mean())
            for row in (plain, quantised)
        )
        assert abs(before - after) <= 1
        assert (plain.macs, plain.params) == (quantised.macs, quantised.params)
        assert quantised.latency_ms > 0


def test_its_scores_are_those_of_the_runner_on_the_same_images(exported, run_folder):
    run, runner = load_run(run_folder), AdaptiveRunner(exported, threads=1)
    data = load_splits(run.recipe)
    for split, name in ((data.select, "score"), (data.test, "test_score")):
        inputs = np.stack([np.asarray(split[index][0]) for index in range(len(split))])
        for _, quantised in _pairs(runner.artifact.table):
            logits = runner.logits(inputs, quantised.subnet)
            right = 100 * float((logits.argmax(1) == split.labels).mean())
            assert getattr(quantised, name) == pytest.approx(right, abs=0.6)  # batches round apart


def test_its_weights_are_stored_in_8_bits(exported):
    artifact = Artifact.open(exported)
    assert artifact.manifest.provenance["int8_calibration_images"] >= 128
    for plain, quantised in _pairs(artifact.table):
        before, after = map(artifact.configuration, (plain.subnet, quantised.subnet))
        graph = artifact.folder / after.graph
        assert after.num_bytes == graph.stat().st_size
        model = onnx.load(graph, load_external_data=False)
        kinds = [node.op_type for node in model.graph.node]
        assert "QuantizeLinear" in kinds
        assert "DequantizeLinear" in kinds
        tensors = {t.name: t for t in model.graph.initializer}
        assert not any(t.external_data for t in tensors.values())
        weights = [t for t in tensors.values() if len(t.dims) >= 2]
        assert sum(int(np.prod(t.dims)) for t in weights) > 0.9 * before.num_bytes / 4
        assert {t.data_type for t in weights} == {onnx.TensorProto.INT8}
        per_channel = [t for t in tensors.values() if t.name.endswith("_scale") and len(t.dims)]
        assert any(np.prod(t.dims) > 1 for t in per_channel)


def test_only_variants_on_the_front_of_score_over_latency_stay(exported, tmp_path):
    """By times that are made up: of 4 variants one is faster, and one scores better."""
    place = tmp_path / "m.mutualnet"
    place.write_bytes(exported.read_bytes())
    artifact = Artifact.open(place)
    cheap, *_, dear = sorted((p for p, _ in _pairs(artifact.table)), key=lambda row: row.macs)
    rows = []
    for row in artifact.table.rows:
        plain = replace(row.subnet, precision=None)
        score, time = {cheap.subnet: (80.0, 1.0), dear.subnet: (95.0, 4.0)}.get(plain, (85.0, 2.0))
        if row.subnet.precision == INT8:
            score, time = score - 0.5, 1.5 * time
            if plain == cheap.subnet:
                time = 0.5
            if plain == dear.subnet:
                score, time = 96.0, 5.0
        rows.append(replace(row, score=score, latency_ms=time))
    artifact = artifact.with_table(QueryTable.from_rows(rows, artifact.table.meta))
    lines = []
    keep_front(artifact, lines.append)
    found = Artifact.open(place)
    kept = {row.subnet for row in found.table.rows if row.subnet.precision == INT8}
    assert kept == {replace(row.subnet, precision=INT8) for row in (cheap, dear)}
    assert len(found.manifest.configurations) == len(found.table.rows) == 6
    assert len(found.manifest.files) == len(artifact.manifest.files) - 2
    assert place.stat().st_size < exported.stat().st_size
    num_bytes = sum(found.configuration(subnet).num_bytes for subnet in kept)
    assert re.fullmatch(
        rf"2 of 4 int8 variants are on the front .* and stay, {num_bytes} bytes: .*", lines[0]
    )
    runner = AdaptiveRunner(found, threads=1)
    image = np.zeros((8, 8), np.uint8)
    assert runner.run(image, "0.7ms")[0].subnet == replace(cheap.subnet, precision=INT8)
    assert runner.run(image)[0].subnet == replace(dear.subnet, precision=INT8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--int8", "--no-measure"], "so it must measure: leave --no-measure out"),
        (["--int8", "--format", "onnx", "-o", "m.onnx", "--configs", "1x8"], "is for artifacts"),
    ],
)
def test_mistakes_are_one_line(run_folder, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run_folder), *words]) == 2
    found = capsys.readouterr().err
    assert message in found
    assert found.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_precision_is_a_part_of_a_configuration(run_folder):
    subnet = Subnet(width_mult=0.5, resolution=8, precision=INT8)
    assert str(subnet) == "0.5x8 int8"
    assert Subnet.from_dict(json.loads(json.dumps(subnet.to_dict()))) == subnet
    assert "precision" not in Subnet().to_dict()  # stored tables stay as they are
    with pytest.raises(ValueError, match="precision must be 'int8' or None, got 'int4'"):
        Subnet(precision="int4")
    supernet = load_run(run_folder).supernet
    with pytest.raises(ValueError, match="precision must be None for a network in PyTorch"):
        supernet.subnet(replace(supernet.space.largest, precision=INT8))


def test_a_spreadsheet_tells_precision_where_there_is_one(exported):
    table = Artifact.open(exported).table
    assert table.to_csv().startswith("width_mult,resolution,num_frames,depth_mult,group_widths,pre")
    rows = [row for row in table.rows if row.subnet.precision is None]
    assert "precision" not in QueryTable.from_rows(rows).to_csv()
