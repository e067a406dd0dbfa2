"""Runs that are killed go on to the same weights."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mutualnet.cli import main
from mutualnet.config.serialization import override, write_recipe
from mutualnet.precision import ComputeFormat
from mutualnet.run_directory import load_run
from mutualnet.training.checkpoints import latest_checkpoint, write_checkpoint
from mutualnet.training.train import train
from tests.small_runs import (
    StoppedError,
    assert_same_log,
    assert_same_weights,
    digits,
    stop_after,
)

STEPS = 40


@pytest.fixture(scope="module")
def recipe():
    return digits(
        "model.kwargs={depth: 10, width_factor: 1, dropout: 0.2}",
        "optimizer.epochs=3",
        "optimizer.ema_decay=0.9",
        "optimizer.accumulate=2",
        "optimizer.clip_norm=5.0",
        "data.num_workers=1",
        "data.mixup_alpha=0.2",
        "data.cutout=4",
        "checkpoint_minutes=0",
        "watch={every_epochs: 1, num_images: 100, num_calibration_samples: 64}",
    )


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """The run that nothing interrupted."""
    return train(recipe, tmp_path_factory.mktemp("runs") / "whole", limit_steps=STEPS)


@pytest.mark.parametrize("stops", [(1,), (17, 18), (23, 39)], ids=str)
def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(
    recipe, whole, tmp_path, monkeypatch, stops
):
    out = tmp_path / "run"
    for step in stops:
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(StoppedError) as caught:
                train(recipe, out, limit_steps=STEPS, resume=True)
        assert "continue with --resume" in caught.value.__notes__[0]
        assert not out.exists()
    train(recipe, out, limit_steps=STEPS, resume=True)
    assert_same_weights(whole, out)
    assert load_run(out).info["resumed_after_step"] == stops[-1]
    assert_same_log(whole, out)


def test_the_number_of_workers_and_other_randomness_change_nothing(recipe, tmp_path):
    torch.manual_seed(1)
    first = train(recipe, tmp_path / "a", limit_steps=6)
    torch.manual_seed(2)
    chosen = override(recipe, ["data.num_workers=2"])
    assert_same_weights(first, train(chosen, tmp_path / "b", limit_steps=6))


def test_a_truncated_newest_checkpoint_costs_a_step_but_not_the_result(
    recipe, whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        with pytest.raises(StoppedError):
            train(recipe, tmp_path / "run", limit_steps=STEPS)
    checkpoints = sorted((tmp_path / ".run.partial" / "checkpoints").iterdir())
    checkpoints[-1].write_bytes(checkpoints[-1].read_bytes()[:-1000])
    out = train(recipe, tmp_path / "run", limit_steps=STEPS, resume=True)
    assert load_run(out).info["resumed_after_step"] == 8
    assert_same_weights(whole, out)


def _words(config: Path, out: Path) -> list[str]:
    return ["train", str(config), "--out", str(out), "--resume"]


def _command(config: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "mutualnet", *_words(config, out)]


def _kill_until_done(config: Path, out: Path, rng: random.Random, kills: int) -> list[int]:
    """Start, kill at a random moment after a checkpoint, start again; let the last one end."""
    killed_at = []
    checkpoints = out.parent / f".{out.name}.partial" / "checkpoints"
    for _ in range(kills):
        before = _newest(checkpoints)
        process = subprocess.Popen(
            _command(config, out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and _newest(checkpoints) <= before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.6))
        process.kill()
        if process.wait() == 0:
            break
        killed_at.append(_newest(checkpoints))
    if not out.exists():
        assert main(_words(config, out)) == 0
    return killed_at


def _newest(checkpoints: Path) -> int:
    return max((int(p.name[5:14]) for p in checkpoints.glob("step-*.pt")), default=0)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 10))]
)
def test_kill_9_at_any_moment_and_resume_gives_the_same_bits(recipe, tmp_path, seed):
    config = tmp_path / "recipe.yaml"
    write_recipe(override(recipe, ["optimizer.epochs=4"]), config)
    assert main(_words(config, tmp_path / "whole")) == 0
    killed_at = _kill_until_done(
        config, tmp_path / "run", random.Random(seed), kills=2 if seed else 1
    )
    assert killed_at
    assert_same_weights(tmp_path / "whole", tmp_path / "run")


def test_a_kill_before_the_first_checkpoint_keeps_the_format(recipe, tmp_path, monkeypatch):
    """A probe may choose another one the next time, whose bits differ."""
    slow = override(recipe, ["compute.precision=auto", "checkpoint_minutes=1000"])
    with monkeypatch.context() as patch:
        patch.setattr(
            "mutualnet.training.setup.choose_format", lambda *_: ComputeFormat("bf16", "contiguous")
        )
        stop_after(patch, 2)
        with pytest.raises(StoppedError) as caught:
            train(slow, tmp_path / "run", limit_steps=4, resume=True)
    assert "What was written so far is in" in caught.value.__notes__[0]
    out = train(slow, tmp_path / "run", limit_steps=4, resume=True)
    assert load_run(out).info["training_format"] == "bf16 contiguous"


def test_ctrl_c_ends_as_interrupted_and_says_how_to_go_on(recipe, tmp_path, monkeypatch, capsys):
    def interrupt(self, trainer, module, *rest):
        write_checkpoint(self.folder, module.done, module.state())
        raise KeyboardInterrupt

    write_recipe(recipe, tmp_path / "recipe.yaml")
    monkeypatch.setattr(
        "mutualnet.training.callbacks.CheckpointWriter.on_train_batch_end", interrupt
    )
    words = ["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]
    assert main(words) == 130
    assert "continue with --resume" in capsys.readouterr().err


def test_another_teacher_under_the_same_path_is_refused(tmp_path, monkeypatch):
    teacher, out = tmp_path / "teacher", tmp_path / "run"
    train(digits(), teacher, limit_steps=1)
    taught = digits(f"teacher.name={teacher}", "checkpoint_minutes=0")
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(StoppedError):
            train(taught, out, limit_steps=2)
    teacher.rename(tmp_path / "first")
    train(digits("seed=1"), teacher, limit_steps=1)
    with pytest.raises(ValueError, match=r"must have the weights that the interrupted run began"):
        train(taught, out, limit_steps=2, resume=True)
    shutil.rmtree(teacher)
    (tmp_path / "first").rename(teacher)
    assert train(taught, out, limit_steps=2, resume=True) == out


def test_other_data_under_the_same_path_is_refused(recipe, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StoppedError):
            train(recipe, out, limit_steps=STEPS)
    checkpoints = tmp_path / ".run.partial" / "checkpoints"
    step, state = latest_checkpoint(checkpoints)
    write_checkpoint(checkpoints, step, state | {"data_id": "others"})
    with pytest.raises(ValueError, match="must hold the data that the interrupted run began with"):
        train(recipe, out, limit_steps=STEPS, resume=True)
