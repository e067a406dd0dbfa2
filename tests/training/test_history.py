"""Means over epochs, which belong to the state of a run."""

from __future__ import annotations

import csv

import pytest
import torch

from mutualnet.run_directory import load_run
from mutualnet.training.history import History
from mutualnet.training.module import TrainingModule
from mutualnet.training.train import train
from tests.small_runs import (
    digits,
    read_events,
    read_log,
)


def test_an_epochs_means_are_over_images_and_not_its_last_batch(tmp_path, monkeypatch):
    """216 images in batches of 100: the last holds 16."""
    seen = []
    inner = TrainingModule.take_step

    def spy(self, batch, step, optimizers=None):
        inner(self, batch, step, optimizers)
        losses = {name: float(loss) for name, loss in self.last_losses.items()}
        seen.append((step // 3, len(batch[0]), losses))

    monkeypatch.setattr(TrainingModule, "take_step", spy)
    recipe = digits("data.train_share=0.2", "data.batch_size=100", "optimizer.epochs=2")
    out = train(recipe, tmp_path / "run")
    rows, events = read_log(out), read_events(out)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["step"] for row in rows] == ["3", "6"]
    for epoch, row in enumerate(rows):
        steps = [(size, losses) for number, size, losses in seen if number == epoch]
        assert [size for size, _ in steps] == [100, 100, 16]
        for name in steps[0][1]:
            mean = sum(size * losses[name] for size, losses in steps) / 216
            assert float(row[name]) == pytest.approx(mean, rel=1e-12)
            assert events[name][epoch] == (3 * epoch + 3, pytest.approx(mean, rel=1e-6))
            assert load_run(out).info["last_losses"][name] == pytest.approx(float(rows[-1][name]))
    with (out / "logs" / "metrics.csv").open() as file:
        times = list(csv.DictReader(file))
    for row in times:
        assert float(row["images_per_s"]) == pytest.approx(216 / float(row["seconds"]))


def test_a_history_of_an_interrupted_epoch_goes_on():
    losses = [torch.tensor(value) for value in (0.1, 0.7, 0.35)]
    whole, first, second = History(), History(), History()
    for loss, size in zip(losses, (7, 5, 3), strict=True):
        whole.add({"ce": loss}, size)
    first.add({"ce": losses[0]}, 7)
    second.load_state(first.state())
    for loss, size in zip(losses[1:], (5, 3), strict=True):
        second.add({"ce": loss}, size)
    assert whole.means() == second.means() == {"ce": pytest.approx((0.7 + 3.5 + 1.05) / 15)}
    second.end_epoch(1, 3, {"lr": 0.1})
    assert second.means() == {}
    assert second.rows[0]["ce"] == whole.means()["ce"]
