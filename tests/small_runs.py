"""Recipes that train in milliseconds, and what is done to their runs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mutualnet.config.recipe import Recipe
from mutualnet.config.serialization import override
from mutualnet.recipes import load_recipe
from mutualnet.training.callbacks import CheckpointWriter

DCM = "teaching.method=dcm"
WATCHED = "watch={every_epochs: 1, num_images: 100, num_calibration_samples: 64}"
SHORT = "data={name: digits, train_share: 0.12, select_share: 0.2, batch_size: 65}"
"""Two steps an epoch."""
SUPERNETS = (
    "method.name=mutualnet",
    "space={width_range: [0.25, 1.0], resolutions: [12, 8]}",
)


def digits(*settings: str) -> Recipe:
    """One slimmable network of ten layers on digits, for an epoch."""
    common = [
        "model.kwargs={depth: 10, width_factor: 1}",
        "space.resolutions=[12, 8]",
        "compute.precision=fp32",
        "compute.memory_format=contiguous",
        "optimizer.epochs=1",
        "optimizer.warmup_epochs=0",
    ]
    return override(load_recipe("digits_demo"), [*common, *settings])


_NETWORK = (
    "{name: mutualnet.models.cifar:WideResNet, kwargs: {depth: 10, width_factor: 1}, "
    "heads: wrn16_1}"
)


def pair(*settings: str, count: int = 2) -> Recipe:
    """Networks of ten layers that teach each other on digits, for two epochs."""
    peers = ", ".join([f"{{model: {_NETWORK}}}"] * (count - 1))
    common = [
        f"model={_NETWORK}",
        f"peers=[{peers}]",
        "method.name=independent",
        "space={width_range: [1.0, 1.0], resolutions: [12]}",
        "compute.precision=fp32",
        "compute.memory_format=contiguous",
        "optimizer.epochs=2",
        "optimizer.warmup_epochs=0",
        "optimizer.decay_all=true",
        "data.batch_size=32",
        "checkpoint_minutes=0",
        "table.latency_runs=0",
        "table.num_calibration_samples=64",
    ]
    return override(load_recipe("digits_demo"), [*common, *settings])


class StoppedError(Exception):
    """Takes the place of a power cut inside of this process."""


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Cut the power after a step, its state being written."""
    inner = CheckpointWriter.on_train_batch_end

    def stop(self, trainer, module, *rest):
        inner(self, trainer, module, *rest)
        if module.done == steps:
            raise StoppedError

    monkeypatch.setattr(CheckpointWriter, "on_train_batch_end", stop)


def assert_same_weights(one: Path, other: Path) -> None:
    """Whether two runs have the same weights, to the bit."""
    first, second = (load_file(out / "weights.safetensors") for out in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


_TIMES = ("seconds", "images_per_s", "watch_seconds")


def read_log(out: Path) -> list[dict[str, str]]:
    """Rows of a run's epochs, without what depends on the clock."""
    with (out / "logs" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{name: row[name] for name in row if name not in _TIMES} for row in rows]


def read_events(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of everything TensorBoard shows of a run but times."""
    events = EventAccumulator(str(out / "logs")).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
        if name not in _TIMES
    }


def assert_same_log(one: Path, other: Path) -> None:
    """Whether two runs logged the same epochs with the same means and scores, each once."""
    rows = read_log(one)
    assert rows == read_log(other)
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    events = read_events(one)
    assert events == read_events(other)
    assert {len(values) for name, values in events.items() if name[:2] in ("ce", "kl")} == {
        len(rows)
    }
