"""A training that diverged is refused, at its step or at its end."""

from __future__ import annotations

import pytest
import torch

from mutualnet.cli import main
from mutualnet.run_directory import load_run
from mutualnet.tasks import Classification
from mutualnet.training import train
from mutualnet.training.divergence import TrainingDivergedError, check_learned
from mutualnet.training.setup import set_up_training
from tests.small_runs import SHORT, digits


def _check(last_epoch, weight=1.0):
    """Look at a training that ended after step 7 with some losses, and with one weight set."""
    recipe = digits("space.resolutions=[8]", "model.kwargs={depth: 10, width_factor: 1}")
    setup = set_up_training(recipe)
    with torch.no_grad():
        setup.networks[0].supernet.model.stem.weight[0, 0, 0, 0] = weight
    check_learned(setup, last_epoch, 7)


def test_a_training_that_ended_far_above_guessing_has_diverged():
    _check({"ce_largest": 23.0, "kl_smallest": 1e6})
    with pytest.raises(
        TrainingDivergedError,
        match=r"loss ce_largest is 23.1 in its last epoch, which ended after step 7",
    ):
        _check({"ce_largest": 23.1})
    with pytest.raises(
        TrainingDivergedError, match=r"stem.weight of network 1 holds values that a"
    ):
        _check({"ce_largest": 1.0}, weight=float("inf"))


def test_a_training_of_no_steps_has_not_diverged():
    _check({})


def test_a_diverged_training_is_refused_when_it_is_resumed_too(tmp_path, monkeypatch):
    monkeypatch.setattr(Classification, "loss_of_guessing", lambda *_: 0.01)
    recipe = digits(SHORT, "checkpoint_minutes=0")
    for _ in range(2):
        match = "training diverged: the loss ce_largest"
        with pytest.raises(TrainingDivergedError, match=match) as caught:
            train(recipe, tmp_path / "run", resume=True)
        assert "or remove it to train with other settings" in caught.value.__notes__[0]
    assert not (tmp_path / "run").exists()


def test_a_small_last_batch_with_a_high_loss_is_no_divergence(tmp_path, monkeypatch):
    plain = Classification.supervised_loss

    def supervised_loss(self, outputs, batch):
        return plain(self, outputs, batch) + 100.0 * (len(outputs) == 3)

    uneven = digits(SHORT, "data.batch_size=63")
    assert set_up_training(uneven).batches.size_of(2) == 3
    monkeypatch.setattr(Classification, "supervised_loss", supervised_loss)
    run = train(uneven, tmp_path / "run")
    assert load_run(run).info["last_losses"]["ce_largest"] > 2


def test_a_learning_rate_of_1e10_is_no_trained_run(tmp_path, capsys):
    words = ["train", "digits_demo", "--out", str(tmp_path / "run"), "--limit-steps", "2", "--set"]
    words += ["optimizer.lr=1e10", "optimizer.warmup_epochs=0", "compute.precision=fp32"]
    assert main([*words, "compute.memory_format=contiguous"]) == 1
    error = capsys.readouterr().err
    assert "of network 1 holds values that are not finite after step 2. Lower optimizer.lr" in error
    assert not (tmp_path / "run").exists()
