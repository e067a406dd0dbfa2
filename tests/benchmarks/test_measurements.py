"""What `make bench` times still runs, at a small size; the times themselves mean nothing here."""

from __future__ import annotations

import math
from functools import partial

import pytest
import timm
import torch

from benchmarks import denormals, peer_steps, pipeline, step, switching
from mutualnet import cpu
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.teaching import dcm

build = partial(timm.create_model, "test_resnet", num_classes=10)
CASE = step.Case(
    "small",
    build,
    ElasticSpace(width_range=(0.5, 1.0), resolutions=(32, 24)),
    2,
    10,
    (Subnet(width_mult=1.0, resolution=32), Subnet(width_mult=0.5, resolution=24)),
    1.0,
    num_draws=2,
)


@pytest.mark.parametrize(
    ("measure", "pairs"),
    [
        (partial(step.fixed_ratio, pairs=1), 1),
        (step.random_ratio, 2),
        (partial(step.format_ratio, memory_format=torch.channels_last, autocast=None, pairs=1), 1),
    ],
    ids=["step", "random", "format"],
)
def test_a_step_is_timed_beside_another(measure, pairs):
    ratio = measure(CASE)
    assert ratio.num_pairs == pairs
    assert 0 < ratio.low <= ratio.median <= ratio.high


def test_both_sides_of_a_step_learn_from_the_same_inputs():
    supernet, batches = step.prepare(CASE)
    task = step.Prescaled(batches=batches)
    for side, (images, labels) in batches.items():
        scaled, same = task.scale(batches[32], Subnet(resolution=side))
        assert scaled is images
        assert same is labels
    assert supernet.extract(CASE.draw[1], uncalibrated=True).training


def test_denormals_are_timed(monkeypatch, capsys):
    monkeypatch.setattr(cpu, "tune_allocator", lambda: None)  # of the whole process
    monkeypatch.setattr(step, "CASES", (CASE,))
    monkeypatch.setattr("sys.argv", ["denormals.py", "0", "1"])
    denormals.main()
    assert float(capsys.readouterr().out) > 0


def test_peers_are_timed():
    stages = (
        ("stem", "stage1"),
        ("stage2",),
        ("stage3", "norm", "relu", "pool", "flatten", "head"),
    )
    case = peer_steps.Case("small", "wrn16_1", 2, 16, 10, stages, dcm(2, peer_steps.HEADS))
    assert peer_steps.step_ratio(case, pairs=1).median > 0


def test_switching_and_making_are_timed():
    assert switching.switch_ratio(build, configs=2, rounds=1) > 0
    assert min(switching.creation_ms(build)) > 0


def test_the_pipeline_is_timed(monkeypatch):
    monkeypatch.setattr(pipeline, "_IMAGES", 4)
    rate, ratio = pipeline.pipeline_ratio(0)
    assert math.isfinite(rate)
    assert ratio.num_pairs == 11
