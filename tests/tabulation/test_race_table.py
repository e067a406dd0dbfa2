"""A raced table against the full one, on a network that has learned something."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mutualnet.methods import METHODS
from mutualnet.models.cifar import WideResNet
from mutualnet.sandwich import sandwich_step
from mutualnet.space import ElasticSpace
from mutualnet.supernet.supernet import Supernet
from mutualnet.tabulation import build_table
from mutualnet.tabulation.race_table import race_ends, race_table
from mutualnet.tasks import Classification, MultiLabel

TASK = Classification()
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
    raced = race_table(
        supernet, select_part=part, num_select=len(select[1]), **(settings | changes)
    )
    return raced, asked, settings | changes


def test_the_picks_are_those_of_the_full_table_within_a_standard_error(trained):
    raced, asked, settings = _race(trained)
    bank = dict(trained[0].bank)
    full = build_table(trained[0], **settings)
    finished = {row.subnet: row for row in raced.finished}
    assert 0 < len(raced.finished) < len(raced.rows) == len(full.rows)
    assert asked == [(0, 100), (100, 160), (160, 240)]
    for row in full.rows:
        pick, best = raced.best(macs=row.macs), full.best(macs=row.macs)
        assert pick.score >= best.score - best.standard_error
        # What is finished is what the full table says of it, to the last image.
        if row.subnet in finished:
            mine = finished[row.subnet]
            assert (mine.score, mine.num_samples) == (row.score, 800)
    for key, statistics in bank.items():  # made from all images asked for, none of the few
        assert statistics.num_samples == 500
        assert torch.equal(statistics.mean, trained[0].bank[key].mean)


def test_a_dropped_row_names_a_better_one_that_costs_no_more(trained):
    raced, _, _ = _race(trained)
    rows = {row.subnet: row for row in raced.rows}
    dropped = [row for row in raced.rows if not row.is_finished]
    for row in dropped:
        assert rows[row.dropped_for].macs <= row.macs
        assert row.num_samples in (100, 160, 240)
        assert row.test_score is row.latency_ms is None
    front = {row.subnet for row in raced.front()}
    assert not front & {row.subnet for row in dropped}
    assert {row.subnet for row in raced.rows if row.test_score is not None} == front
    assert raced.meta["race"] == {"images": [100, 160, 240], "num_dropped": len(dropped)}


def test_only_finished_rows_are_timed_and_kept_in_the_bank(trained):
    supernet = trained[0]
    for key in list(supernet.bank):
        del supernet.bank._entries[key]
    raced, _, _ = _race(trained, latency_runs=2)
    assert {supernet.key(row.subnet) for row in raced.finished} == set(supernet.bank)
    for row in raced.rows:
        assert (row.latency_ms is not None) == row.is_finished
    assert raced.meta["latency"]["runs"] == 2


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
        progress=lines.append,
    )
    assert (asked, len(raced.finished)) == ([], len(SPACE.grid()))
    assert "no mean over images" in lines[0]


def test_the_bank_is_put_back_after_an_error(trained):
    bank = trained[0].bank
    with pytest.raises(TypeError):
        _race(trained, train_batches=None)
    assert trained[0].bank is bank


def test_rounds_grow_and_end_with_the_images():
    assert race_ends(5000) == (250, 500, 1000, 1500)
    assert race_ends(800) == (100, 160, 240)
    assert race_ends(60) == (60,)
