"""Scores and tables against one network at a time."""

from __future__ import annotations

import pytest
import torch

from mutualnet.calibration import calibrate
from mutualnet.evaluation import evaluate, sample_scores
from mutualnet.models.cifar import wrn16_1
from mutualnet.progress import WorkProgress
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.bn_bank import MissingStatisticsError
from mutualnet.supernet.supernet import Supernet
from mutualnet.tabulation import TableInputs, build_table
from mutualnet.tasks.classification import Classification

TASK = Classification()
SPACE = ElasticSpace(widths=(1.0, 0.5, 0.25), resolutions=(16, 8))


@pytest.fixture
def supernet():
    return Supernet(wrn16_1(num_classes=4), SPACE)


@pytest.fixture
def batches():
    return [(torch.randn(5, 3, 16, 16), torch.randint(4, (5,))) for _ in range(4)]


def test_scores_are_those_of_each_extracted_network_alone(supernet, batches):
    calibrate(supernet, batches, SPACE.grid(), task=TASK, data_id="d", num_samples=20)
    scores = evaluate(supernet, batches, SPACE.grid(), task=TASK)
    for subnet, score in scores.items():
        module, right = supernet.extract(subnet).eval(), 0
        for images, labels in batches:
            scaled = TASK.scale((images, labels), subnet)[0]
            right += int((module(scaled).argmax(1) == labels).sum())
        assert score.value == pytest.approx(100 * right / 20)
        assert score.num_samples == 20


def test_each_batch_is_loaded_once_for_all(supernet, batches):
    loaded = []

    def stream():
        for number, batch in enumerate(batches):
            loaded.append(number)
            yield batch

    calibrate(supernet, batches, SPACE.grid(), task=TASK, data_id="d", num_samples=20)
    evaluate(supernet, stream(), SPACE.grid(), task=TASK)
    assert loaded == [0, 1, 2, 3]


def test_an_uncalibrated_subnetwork_is_refused(supernet, batches):
    with pytest.raises(MissingStatisticsError, match=r"0\.25x8 must be calibrated"):
        evaluate(supernet, batches, [SPACE.smallest], task=TASK)


def test_scores_of_nothing_are_refused(supernet, batches):
    full = Subnet(width_mult=1.0, resolution=16)
    with pytest.raises(ValueError, match="at least one sample, got none"):
        evaluate(supernet, [], [full], task=TASK)
    with pytest.raises(ValueError, match="at least one sample, got none"):
        sample_scores(supernet, [], [full], task=TASK)
    with pytest.raises(ValueError, match="at least one sub-network, got none"):
        sample_scores(supernet, batches, [], task=TASK)


def test_the_model_keeps_its_mode_and_statistics(supernet, batches):
    supernet.train()
    before = {name: buffer.clone() for name, buffer in supernet.model.named_buffers()}
    calibrate(supernet, batches, SPACE.grid(), task=TASK, data_id="d", num_samples=20)
    evaluate(supernet, batches, SPACE.grid(), task=TASK)
    assert all(module.training for module in supernet.model.modules())
    for name, buffer in supernet.model.named_buffers():
        assert torch.equal(buffer, before[name])


def test_the_table_scores_the_grid_on_select_and_the_front_on_test(supernet, batches):
    test = [(torch.randn(6, 3, 16, 16), torch.randint(4, (6,)))]
    told = []
    table = build_table(
        supernet,
        TableInputs(
            task=TASK,
            train_batches=batches,
            select_batches=batches,
            test_batches=test,
            data_id="d",
            num_calibration_samples=20,
            latency_runs=2,
            work=WorkProgress(told.append),
        ),
    )
    assert {row.subnet for row in table.rows} == set(SPACE.grid())
    front = {row.subnet for row in (*table.front(), *table.front("latency_ms"))}
    for row in table.rows:
        assert (row.test_score is not None) == (row.subnet in front)
        assert row.latency_ms is not None
    assert table.meta["latency"]["batch_size"] == 1
    assert len(told) == 4
    assert len(supernet.bank) == len(SPACE.grid())


def test_latency_and_test_may_be_left_out(supernet, batches):
    table = build_table(
        supernet,
        TableInputs(
            task=TASK,
            train_batches=batches,
            select_batches=batches,
            test_batches=None,
            data_id="d",
            subnets=[Subnet(width_mult=0.5, resolution=8)],
            num_calibration_samples=8,
            latency_runs=0,
        ),
    )
    (row,) = table.rows
    assert row.latency_ms is None
    assert row.test_score is None
