"""Graphs on one file of weights give what PyTorch gives, in few bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import timm
import torch
from torch import nn

from mutualnet import ElasticSpace, MissingStatisticsError, Subnet, Supernet
from mutualnet.export import ArtifactInfo, choose_rows, write_artifact
from mutualnet.export import artifact_writer as artifact_module
from mutualnet.runtime import AdaptiveRunner, Artifact
from mutualnet.table import QueryTable
from tests.small_artifact import (
    SUBNETS,
    Mixed,
    small_artifact,
    small_images,
    small_info,
    small_supernet,
    small_table,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MUTUALNET_CACHE", str(tmp_path / "cache"))


class Normless(nn.Module):
    """Without BN, with a weight that is computed and a channel-wise scale."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.scale = nn.Parameter(torch.rand(16, 1, 1) + 0.5)
        self.second = nn.Conv2d(16, 32, 3, 2, 1)
        self.classifier = nn.Linear(32, 10)

    def forward(self, x):
        x = torch.relu(self.first(x)) * self.scale
        weight = self.second.weight - self.second.weight.mean((1, 2, 3), keepdim=True)
        x = nn.functional.conv2d(x, weight, self.second.bias, stride=2, padding=1)
        return self.classifier(torch.relu(x).flatten(2).mean(2))


def _densenet():
    return timm.models.densenet.DenseNet(
        growth_rate=8, block_config=(2, 2), num_classes=10, bn_size=2
    )


NETWORKS = {
    "mixed": Mixed,
    "normless": Normless,
    "densenet": _densenet,
    "mobilenetv2": lambda: timm.create_model("mobilenetv2_035", num_classes=10),
    "efficientnet": lambda: timm.create_model("tinynet_e", num_classes=10),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_graphs_give_what_pytorch_gives(name, tmp_path):
    net = small_supernet(NETWORKS[name]())
    path = small_artifact(tmp_path, net)
    runner = AdaptiveRunner(path)
    images = small_images(3)
    for subnet in SUBNETS:
        module = net.extract(subnet).eval()
        with torch.inference_mode():
            scaled = nn.functional.interpolate(
                images, (subnet.resolution,) * 2, mode="bilinear", align_corners=True
            )
            expected = module(scaled).numpy()
        found = runner.logits(images.numpy(), subnet)
        assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())
    assert all(c.max_difference <= 1e-4 for c in runner.artifact.manifest.configurations)


def test_norms_of_each_width_are_exported(tmp_path):
    """Slimmable networks give every width BN weights of its own."""
    space = ElasticSpace(widths=(0.25, 0.5, 0.75, 1.0), resolutions=(32, 24))
    net = small_supernet(space=space, own_norms=True)
    with torch.no_grad():
        for number, parameter in enumerate(net.own_norms.parameters()):
            parameter.fill_(0.5 + 0.01 * number)
    net.weights_changed()
    from mutualnet import calibrate
    from mutualnet.tasks.classification import Classification

    batch = (small_images(16), torch.zeros(16, dtype=torch.long))
    calibrate(net, [batch], SUBNETS, task=Classification(), data_id="noise", num_samples=16)
    runner, images = AdaptiveRunner(small_artifact(tmp_path, net)), small_images(3)
    subnet = Subnet(width_mult=0.5, resolution=32)
    with torch.inference_mode():
        expected = net.extract(subnet).eval()(images).numpy()
    np.testing.assert_allclose(runner.logits(images.numpy(), subnet), expected, atol=1e-4)


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


def test_a_network_whose_code_computes_sizes_is_traced_again(tmp_path, monkeypatch):
    """A graph serves other widths only where it gives what PyTorch gives."""

    class Divided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 16, 3, 2, 1)
            self.second = nn.Conv2d(16, 16, 1)
            self.classifier = nn.Linear(16, 10)

        def forward(self, x):
            x = torch.relu(self.first(x))
            x = self.second(x) / x.shape[1]  # a number in the graph
            return self.classifier(x.mean((2, 3)))

    traced = []
    inner = artifact_module.trace_graph

    def count(*arguments, **others):
        traced.append(others)
        return inner(*arguments, **others)

    monkeypatch.setattr(artifact_module, "trace_graph", count)
    net = small_supernet(Divided())
    small_artifact(tmp_path, net)
    assert len(traced) == len({net.counts(subnet) for subnet in SUBNETS}) == 2
    traced.clear()
    small_artifact(tmp_path, small_supernet())
    assert len(traced) == 1


def test_nothing_is_written_without_statistics(tmp_path):
    net = Supernet(Mixed(), ElasticSpace(width_range=(0.25, 1.0), resolutions=(32, 24)))
    table = small_table(net)
    out = tmp_path / "m.mutualnet"
    with pytest.raises(MissingStatisticsError):
        write_artifact(out, net, table, table.rows, small_info(), small_images())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("configuration", r"the graph of .* must give what PyTorch gives within 0\.0001, got a"),
        ("scaling", r"the graph's scaling must give what PyTorch gives within 0\.001, got a"),
    ],
)
def test_a_graph_that_gives_something_else_is_not_written(tmp_path, monkeypatch, wrong, message):
    net = small_supernet()
    table, out = small_table(net), tmp_path / "m.mutualnet"
    inner = artifact_module.outputs_of_graph
    monkeypatch.setattr(
        artifact_module,
        "outputs_of_graph",
        lambda path, *others: inner(path, *others) + path.name.startswith(wrong),
    )
    with pytest.raises(ValueError, match=message):
        write_artifact(out, net, table, table.rows, small_info(), small_images())
    assert list(tmp_path.iterdir()) == []


def test_latencies_of_pytorch_stay_behind(tmp_path):
    table = Artifact.open(small_artifact(tmp_path)).table
    assert [row.latency_ms for row in table.rows] == [None] * 4


def test_rows_are_chosen(tmp_path):
    net = small_supernet()
    full = small_table(net, net.space.grid())
    dominated = dataclasses.replace(full.rows[3], score=1.0)
    table = QueryTable.from_rows(
        [dominated if row is full.rows[3] else row for row in full.rows], full.meta
    )
    front = choose_rows(table, "front")
    assert len(front) == 7
    assert len(choose_rows(table, "all")) == 8
    assert choose_rows(table, 1) == (table.top,)
    assert choose_rows(table, 2) == (front[0], front[-1])
    assert choose_rows(table, 100) == front
    for count in range(1, 8):
        chosen = choose_rows(table, count)
        assert len(set(chosen)) == count
        assert list(chosen) == sorted(chosen, key=lambda row: row.macs)
    assert [row.subnet for row in choose_rows(table, [SUBNETS[3], SUBNETS[0], SUBNETS[3]])] == [
        SUBNETS[0],
        SUBNETS[3],
    ]
    for wish in (0, "some", []):
        with pytest.raises(ValueError, match="configuration"):
            choose_rows(table, wish)


def test_a_task_of_ones_own_is_refused():
    with pytest.raises(ValueError, match="an artifact runs the tasks classification, multil"):
        ArtifactInfo(
            task="mine:task",
            class_names=("a",),
            preprocessing=small_info().preprocessing,
            provenance={},
        )
