"""What the losses of a step are called."""

from __future__ import annotations

import pytest

from mutualnet.training.module import TrainingModule
from mutualnet.training.setup import set_up_training
from tests.small_runs import DCM, pair


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ([DCM], {"ce_1": 3, "kl_1": 9, "ce_2": 3, "kl_2": 9}),
        (["teaching.method=dml"], {"ce_1": 1, "kl_1_2": 1, "ce_2": 1, "kl_2_1": 1}),
    ],
    ids=["dcm", "dml"],
)
def test_people_are_told_each_loss_or_sums_of_many(settings, shown):
    setup = set_up_training(pair(*settings))
    module = TrainingModule(setup)
    module.take_step(next(iter(setup.loader())), 0)
    parts = []
    for name, count in shown.items():
        losses = [float(v) for term, v in module.last_losses.items() if term.startswith(name)]
        assert len(losses) == count
        parts.append(f"{name} {sum(losses):.3f}")
    counted = " (sums of 24 terms)" if DCM in settings else ""
    assert module.describe_losses() == ", ".join(parts) + counted
