"""Which number format a table is made in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mutualnet.config.recipe import ComputeConfig
from mutualnet.methods import METHODS
from mutualnet.models.cifar import WideResNet, wrn16_1
from mutualnet.precision import PLAIN, ComputeFormat
from mutualnet.space import ElasticSpace
from mutualnet.supernet.supernet import Supernet
from mutualnet.tasks.classification import Classification
from mutualnet.training import autotune
from mutualnet.training.autotune import TableFormats, choose_format, table_formats

BF16 = ComputeFormat("bf16", "channels_last")
SLOW_BF16 = ComputeFormat("bf16", "contiguous")
LAST = ComputeFormat("fp32", "channels_last")


@pytest.fixture
def supernet():
    model = WideResNet(depth=10, width_factor=1, num_classes=4)
    return Supernet(model, ElasticSpace(resolutions=(16, 8)))


def _timed(
    monkeypatch, batch: dict[ComputeFormat, float], image: dict[ComputeFormat, float]
) -> None:
    def seconds(module, run, device, formats, passes=3):
        known = batch if passes == 3 else image
        return {compute_format: known[compute_format] for compute_format in formats}

    monkeypatch.setattr(autotune, "_seconds_per_pass", seconds)


def _choose(supernet, trained: ComputeFormat, *, one_image: bool = False) -> TableFormats:
    batch = torch.zeros(4, 3, 16, 16), torch.zeros(4, dtype=torch.long)
    return table_formats(supernet, trained, batch, task=Classification(), one_image=one_image)


def test_the_fastest_is_taken_and_bf16_to_run_in_only_if_training_took_it(supernet, monkeypatch):
    batch = {PLAIN: 4.0, LAST: 3.0, SLOW_BF16: 2.5, BF16: 2.0}
    _timed(monkeypatch, batch, batch)
    assert _choose(supernet, BF16) == TableFormats(BF16, BF16)
    for trained in (LAST, PLAIN):
        assert _choose(supernet, trained) == TableFormats(BF16, LAST)


def test_a_machine_slow_at_bf16_stays_with_the_weights_own(supernet, monkeypatch):
    batch = {PLAIN: 4.0, LAST: 3.9, SLOW_BF16: 9.0, BF16: 8.0}
    _timed(monkeypatch, batch, batch)
    # channels_last saves less than a tenth
    assert _choose(supernet, BF16) == TableFormats(PLAIN, PLAIN)


def test_what_slows_a_single_image_is_no_format_to_run_in_but_may_score(supernet, monkeypatch):
    batch = {PLAIN: 4.0, LAST: 3.0, SLOW_BF16: 2.5, BF16: 2.0}
    _timed(monkeypatch, batch, {PLAIN: 1.0, LAST: 1.05, SLOW_BF16: 2.0, BF16: 2.0})
    assert _choose(supernet, BF16, one_image=True) == TableFormats(BF16, LAST)
    assert _choose(supernet, BF16) == TableFormats(BF16, BF16)


def test_the_probe_runs_and_leaves_the_network_alone(supernet):
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    found = _choose(supernet, BF16, one_image=True)
    assert {found.scoring, found.running} <= {PLAIN, LAST, SLOW_BF16, BF16}
    assert all(torch.equal(before[name], value) for name, value in supernet.state_dict().items())
    assert len(supernet.bank) == 0


def test_the_probe_chooses_among_what_is_left_open_and_changes_nothing():
    supernet = Supernet(wrn16_1(4), ElasticSpace(resolutions=(16,))).train()
    before = {n: v.clone() for n, v in supernet.model.state_dict().items()}
    batch = torch.randn(4, 3, 16, 16), torch.zeros(4, dtype=torch.long)
    draw = METHODS["mutualnet"].draw(supernet.space, np.random.default_rng(0))
    state = torch.get_rng_state()
    task = Classification()
    fixed = ComputeConfig(precision="bf16", memory_format="channels_last")
    assert choose_format(supernet, batch, draw, task, fixed) == ComputeFormat(
        "bf16", "channels_last"
    )
    half = ComputeConfig(precision="fp32")
    assert choose_format(supernet, batch, draw, task, half).precision == "fp32"
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in supernet.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in supernet.parameters())
