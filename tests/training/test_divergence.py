"""A training that diverged is refused, at its step or at its end."""

from __future__ import annotations

import pytest
import torch

from mutualnet.cli import main
from mutualnet.training.divergence import TrainingDivergedError, check_learned
from mutualnet.training.setup import set_up_training
from tests.small_runs import digits


def _check(last_losses, weight=1.0):
    """Look at a training that ended after step 7 with some losses, and with one weight set."""
    recipe = digits("space.resolutions=[8]", "model.kwargs={depth: 10, width_factor: 1}")
    setup = set_up_training(recipe)
    with torch.no_grad():
        setup.networks[0].supernet.model.stem.weight[0, 0, 0, 0] = weight
    losses = {name: torch.tensor(loss) for name, loss in last_losses.items()}
    check_learned(setup, losses, 7)


def test_a_training_that_ended_far_above_guessing_has_diverged():
    _check({"ce_largest": 23.0, "kl_smallest": 1e6})
    with pytest.raises(
        TrainingDivergedError, match=r"loss ce_largest is 23.1 at its last step 7, "
    ):
        _check({"ce_largest": 23.1})
    with pytest.raises(
        TrainingDivergedError, match=r"stem.weight of network 1 holds values that a"
    ):
        _check({"ce_largest": 1.0}, weight=float("inf"))


def test_a_learning_rate_of_1e10_is_no_trained_run(tmp_path, capsys):
    words = ["train", "digits_demo", "--out", str(tmp_path / "run"), "--limit-steps", "2", "--set"]
    words += ["optimizer.lr=1e10", "optimizer.warmup_epochs=0", "compute.precision=fp32"]
    assert main([*words, "compute.memory_format=contiguous"]) == 1
    error = capsys.readouterr().err
    assert "of network 1 holds values that are not finite after step 2. Lower optimizer.lr" in error
    assert not (tmp_path / "run").exists()
