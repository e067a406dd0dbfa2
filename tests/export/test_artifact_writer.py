"""Graphs on one file of weights give what PyTorch gives, in few bytes."""

from __future__ import annotations

import dataclasses

import pytest
from torch import nn

from mutualnet import ElasticSpace, MissingStatisticsError, Supernet
from mutualnet.export import ArtifactInfo, choose_rows, write_artifact
from mutualnet.runtime import Artifact
from mutualnet.table import QueryTable
from tests.small_artifact import (
    NAMES,
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


def test_nothing_is_written_without_statistics(tmp_path):
    net = Supernet(Mixed(), ElasticSpace(width_range=(0.25, 1.0), resolutions=(32, 24)))
    table = small_table(net)
    out = tmp_path / "m.mutualnet"
    with pytest.raises(MissingStatisticsError):
        write_artifact(out, net, table, table.rows, small_info(), small_images())
    assert list(tmp_path.iterdir()) == []


def test_latencies_of_pytorch_stay_behind(tmp_path):
    table = Artifact.open(small_artifact(tmp_path)).table
    assert [row.latency_ms for row in table.rows] == [None] * 4


class Tied(nn.Module):
    """Two convolutions with one weight."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.one = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.other = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.other.weight = self.one.weight
        self.last = nn.Conv2d(16, 32, 1)
        self.classifier = nn.Linear(32, len(NAMES))

    def forward(self, x):
        x = self.other(self.one(self.stem(x)).relu()).relu()
        return self.classifier(self.last(x).relu().mean((2, 3)))


def test_tied_weights_have_one_place_under_all_their_names(tmp_path):
    net = small_supernet(Tied())
    slices = net.weight_slices(SUBNETS[1])
    assert slices["one.weight"] == slices["other.weight"]
    artifact = Artifact.open(small_artifact(tmp_path, net))
    assert max(c.max_difference for c in artifact.manifest.configurations) <= 1e-4


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
