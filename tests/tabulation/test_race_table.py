"""A raced table against the full one, on a network that has learned something."""

from __future__ import annotations

import importlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from mutualnet.methods import METHODS
from mutualnet.models.cifar import WideResNet
from mutualnet.precision import ComputeFormat
from mutualnet.progress import WorkProgress
from mutualnet.sandwich import sandwich_step
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.supernet import Supernet
from mutualnet.tabulation import TableInputs, build_table, full_table, race_table
from mutualnet.tasks import Classification, MultiLabel

MODULE = importlib.import_module("mutualnet.tabulation.race_table")
"""The file; its function has the same name."""
TASK = Classification()
STOPS = (100, 160, 280, 400, 560, 800)
BF16 = ComputeFormat("bf16", "channels_last")
SPACE = ElasticSpace(widths=(1.0, 0.75, 0.5, 0.25), resolutions=(12, 8, 6))


def _images(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Four classes, of stripes in two directions and widths, under much noise."""
    noise = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=noise)
    place = torch.arange(12) % 2, torch.arange(12) // 2 % 2
    stripes = torch.stack([p.float()[None].expand(12, 12) for p in place])
    patterns = torch.cat([stripes, stripes.transpose(1, 2)]) - 0.5
    pixels = patterns[labels][:, None] + 1.2 * torch.randn(count, 3, 12, 12, generator=noise)
    return pixels, labels


def _batches(images, size=50):
    return list(zip(images[0].split(size), images[1].split(size), strict=True))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = WideResNet(depth=10, width_factor=1, num_classes=4)
    supernet = Supernet(model, SPACE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rng, train = np.random.default_rng(0), _batches(_images(1500, 0))
    for batch in train:
        optimizer.zero_grad()
        sandwich_step(supernet, batch, METHODS["mutualnet"].draw(SPACE, rng), task=TASK)
        optimizer.step()
    return supernet.eval(), train, _images(800, 1), _batches(_images(300, 2))


def _race(trained, **changes):
    """A raced table, the parts of the select split that it asked for, and what it was made from."""
    supernet, train, select, test = trained
    asked = []

    def part(start, stop):
        asked.append((start, stop))
        return _batches((select[0][start:stop], select[1][start:stop]))

    settings = {
        "task": TASK,
        "train_batches": train,
        "select_batches": _batches(select),
        "test_batches": test,
        "data_id": "d",
        "num_calibration_samples": 500,
        "latency_runs": 0,
    }
    inputs = TableInputs(**(settings | changes))
    raced = race_table(supernet, inputs, select_part=part, num_select=len(select[1]))
    return raced, asked, inputs


def test_the_picks_are_those_of_the_full_table_within_a_standard_error(trained):
    raced, asked, inputs = _race(trained)
    bank = dict(trained[0].bank)
    full = build_table(trained[0], inputs)
    finished = {row.subnet: row for row in raced.finished}
    assert 0 < len(raced.finished) < len(raced.rows) == len(full.rows)
    assert asked == list(pairwise([0, *STOPS]))
    for row in full.rows:
        pick, best = raced.best(macs=row.macs), full.best(macs=row.macs)
        assert pick.score >= best.score - best.standard_error
        # What is finished is what the full table says of it, to the last image.
        if row.subnet in finished:
            mine = finished[row.subnet]
            assert (mine.score, mine.num_samples) == (row.score, 800)
            assert mine.standard_error == pytest.approx(row.standard_error)
    for subnet in finished:  # statistics of all images asked for, none of the few
        statistics = bank[trained[0].key(subnet)]
        assert statistics.num_samples == 500
        assert torch.equal(statistics.mean, trained[0].bank[trained[0].key(subnet)].mean)


def test_a_dropped_row_names_a_finished_one_that_costs_no_more(trained):
    raced, _, _ = _race(trained)
    rows = {row.subnet: row for row in raced.rows}
    dropped = [row for row in raced.rows if not row.is_finished]
    assert dropped
    for row in dropped:
        assert rows[row.dropped_for].is_finished
        assert rows[row.dropped_for].macs <= row.macs
        assert row.num_samples in STOPS
        assert row.test_score is row.latency_ms is None
    front = {row.subnet for row in raced.front()}
    assert not front & {row.subnet for row in dropped}
    assert {row.subnet for row in raced.rows if row.test_score is not None} == front
    assert raced.meta["race"] == {"images": list(STOPS), "num_dropped": len(dropped)}


def test_only_finished_rows_are_timed_and_put_into_the_bank(trained):
    supernet = trained[0]
    for key in list(supernet.bank):
        del supernet.bank._entries[key]
    raced, _, _ = _race(trained, latency_runs=2)
    assert {supernet.key(row.subnet) for row in raced.finished} == set(supernet.bank)
    for row in raced.rows:
        assert (row.latency_ms is not None) == row.is_finished
    assert raced.meta["latency"]["runs"] == 2


def test_scores_and_latencies_have_formats_of_their_own(trained, monkeypatch):
    timed = []
    inner = full_table.measure_latency

    def measure(module, *args, autocast, **kwargs):
        weight = next(p for p in module.parameters() if p.dim() == 4 and p.shape[1] > 1)
        timed.append((autocast, weight.is_contiguous()))
        return inner(module, *args, autocast=autocast, **kwargs)

    monkeypatch.setattr(full_table, "measure_latency", measure)
    raced, _, _ = _race(trained, latency_runs=2, scoring=BF16)
    assert set(timed) == {(None, True)}
    assert raced.meta["format"] == "fp32 contiguous"
    assert raced.meta["scoring_format"] == "bf16 channels_last"


def test_a_format_that_scores_worse_than_fp32_is_given_up(trained, monkeypatch):
    inner = MODULE.sample_scores

    def worse(*args, autocast, **kwargs):
        scores = inner(*args, autocast=autocast, **kwargs)
        return scores if autocast is None else scores * (np.arange(scores.shape[1]) % 5 > 0)

    plain, _, _ = _race(trained, scoring=ComputeFormat("fp32", "channels_last"))
    monkeypatch.setattr(MODULE, "sample_scores", worse)
    raced, asked, _ = _race(trained, scoring=BF16)
    assert asked[:2] == [(0, 300), (0, 300)]  # two networks in both formats
    assert raced.meta["scoring_format"] == "fp32 channels_last"
    assert raced.rows == plain.rows


def test_a_score_that_is_no_mean_over_images_gets_the_full_table(trained):
    select = trained[2]
    targets = torch.nn.functional.one_hot(select[1], 4)
    batches, lines = _batches((select[0][:100], targets[:100])), []
    raced, asked, _ = _race(
        trained,
        task=MultiLabel(),
        train_batches=batches,
        select_batches=batches,
        test_batches=None,
        num_calibration_samples=100,
        scoring=BF16,
        work=WorkProgress(lines.append),
    )
    assert (asked, len(raced.finished)) == ([], len(SPACE.grid()))
    assert "no mean over images" in lines[0]
    assert raced.meta["scoring_format"] == raced.meta["format"] == "fp32 contiguous"


def test_the_bank_is_put_back_after_an_error(trained):
    bank = trained[0].bank
    with pytest.raises(TypeError):
        _race(trained, train_batches=None)
    assert trained[0].bank is bank


def test_equal_sub_networks_run_once_and_share_what_is_found(trained):
    supernet = trained[0]
    one = Subnet(width_mult=0.5, resolution=8)
    twins = [one, replace(one, group_widths=((supernet.plan.groups[0].name, 0.5),))]
    assert supernet.key(twins[0]) == supernet.key(twins[1])
    raced, _, _ = _race(trained, subnets=twins)
    first, second = raced.rows
    assert first.is_finished
    assert replace(first, subnet=second.subnet) == second


@pytest.mark.parametrize(
    ("times", "message"), [(0, "at least one .* got none"), (2, "once, got 1x16 again")]
)
def test_rows_must_be_some_and_each_named_once(trained, times, message):
    subnets = [Subnet(width_mult=1.0, resolution=16)] * times
    with pytest.raises(ValueError, match=message):
        _race(trained, subnets=subnets)


def test_a_race_without_images_is_refused_before_it_calibrates(trained):
    supernet, train, _, _ = trained
    inputs = TableInputs(
        task=TASK, train_batches=train, select_batches=[], test_batches=None, data_id="d"
    )
    with pytest.raises(ValueError, match="num_select must be >= 1, some images that choose, got 0"):
        race_table(supernet, inputs, select_part=lambda start, stop: [], num_select=0)


def test_a_negative_count_of_passes_is_refused(trained):
    with pytest.raises(ValueError, match="latency_runs must be >= 0, got -1"):
        _race(trained, latency_runs=-1)
