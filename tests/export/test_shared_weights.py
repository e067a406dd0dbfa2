"""All graphs of an artifact share one copy of the weights."""

from __future__ import annotations

import onnx
import timm

from mutualnet.runtime import Artifact
from tests.small_artifact import (
    small_artifact,
    small_supernet,
)


def test_weights_lie_once(tmp_path):
    """The file of weights holds the full network's, and graphs hold statistics and little else."""
    net = small_supernet(timm.create_model("resnet10t", num_classes=10))
    artifact = Artifact.open(small_artifact(tmp_path, net))
    full = sum(p.numel() * 4 for p in net.model.parameters())
    assert (artifact.folder / "weights.bin").stat().st_size <= 1.01 * full
    graphs = [artifact.folder / c.graph for c in artifact.manifest.configurations]
    statistics = sum(2 * 4 * m.num_features for m in net.modules() if hasattr(m, "running_mean"))
    for graph in graphs:
        assert graph.stat().st_size <= statistics + 40_000
        model = onnx.load(graph, load_external_data=False)
        external = [t for t in model.graph.initializer if t.data_location]
        assert {t.external_data[0].value for t in external} == {"weights.bin"}


def test_the_same_network_makes_the_same_file(tmp_path):
    net = small_supernet()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = small_artifact(tmp_path / "a", net), small_artifact(tmp_path / "b", net)
    assert first.read_bytes() == second.read_bytes()
