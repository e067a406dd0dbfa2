"""Graphs on one file of weights give what PyTorch gives, in few bytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from mutualnet import ElasticSpace, MissingStatisticsError, Supernet
from mutualnet.data import photo_transform
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


@pytest.mark.parametrize(
    ("changes", "images", "message"),
    [
        ({"class_names": ("cat", "dog")}, small_images(), r"logits \(N, 2\) for its 2 class_names"),
        (
            {"preprocessing": photo_transform("cifar10", 48)},
            small_images(),
            r"images must be \(N, 3, 48, 48\), as the preprocessing makes .*\(4, 3, 32, 32\)",
        ),
        ({}, torch.randn(4, 3, 32, 24), r"images must be \(N, 3, 32, 32\), .* \(4, 3, 32, 24\)"),
    ],
)
def test_what_a_device_would_refuse_is_not_written(tmp_path, changes, images, message):
    net = small_supernet()
    table, info = small_table(net), dataclasses.replace(small_info(), **changes)
    with pytest.raises(ValueError, match=message):
        write_artifact(tmp_path / "m.mutualnet", net, table, table.rows, info, images)
    assert list(tmp_path.iterdir()) == []


def test_names_and_provenance_are_what_a_manifest_holds():
    with pytest.raises(ValueError, match="class_names must be text, got 0"):
        dataclasses.replace(small_info(), class_names=(0, 1))
    with pytest.raises(ValueError, match="provenance must hold plain finite JSON values"):
        dataclasses.replace(small_info(), provenance={"run": Path("run")})
    info = dataclasses.replace(small_info(), provenance={2: "two", 10: "ten"})
    assert info.provenance == {"2": "two", "10": "ten"}


def test_a_row_that_was_dropped_is_not_exported(tmp_path):
    net = small_supernet()
    first, *rest = small_table(net).rows
    dropped = dataclasses.replace(first, dropped_for=rest[-1].subnet)
    table = QueryTable.from_rows([dropped, *rest])
    with pytest.raises(ValueError, match="was dropped while the table was made"):
        write_artifact(
            tmp_path / "m.mutualnet", net, table, table.rows, small_info(), small_images()
        )
