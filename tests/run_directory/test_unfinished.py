"""A run that is not finished yet overwrites nothing and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from mutualnet.config.serialization import override
from mutualnet.run_directory import new_run
from mutualnet.training.train import train
from tests.small_runs import (
    StoppedError,
    assert_same_weights,
    digits,
    stop_after,
)


def test_nothing_is_left_of_a_run_that_wrote_nothing(recipe, tmp_path):
    with pytest.raises(ZeroDivisionError), new_run(tmp_path / "run", recipe):
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())


STEPS = 8


@pytest.fixture
def recipe():
    return digits("checkpoint_minutes=0", "data.num_workers=1", "watch.every_epochs=0")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_leads_to_where_the_run_is_made(recipe, tmp_path, is_there):
    link, disk = tmp_path / "here" / "run", tmp_path / "disk"
    link.parent.mkdir()
    link.symlink_to(disk)
    if is_there:
        disk.mkdir()
    with new_run(link, recipe) as partial:
        assert partial.parent == disk.parent
    assert (disk / "config.yaml").is_file()
    assert link.is_symlink()
    assert link.resolve() == disk


def test_a_name_that_no_directory_can_get_is_refused_before_training(recipe, tmp_path, monkeypatch):
    link = tmp_path / "run"
    link.symlink_to("run")
    with pytest.raises(ValueError, match="must not be a link to itself"), new_run(link, recipe):
        raise AssertionError
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: path == disk)
    with pytest.raises(ValueError, match=r"such as --out .*disk/run"), new_run(disk, recipe):
        raise AssertionError


def test_an_unfinished_run_is_neither_overwritten_nor_mixed_up(recipe, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StoppedError):
            train(recipe, out, limit_steps=STEPS)
    with pytest.raises(ValueError, match=r"an unfinished run is in .* by --resume, or remove it"):
        train(recipe, out, limit_steps=STEPS)
    with pytest.raises(ValueError, match="but seed was 0, is 1"):
        train(replace(recipe, seed=1), out, limit_steps=STEPS, resume=True)
    with pytest.raises(ValueError, match=r"was to take 8 steps, this one 4"):
        train(recipe, out, limit_steps=4, resume=True)
    script = "import sys, time, fcntl; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); "
    script += "print('held', flush=True); time.sleep(60)"
    words = [sys.executable, "-c", script, str(tmp_path / ".other.partial.lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with (
            pytest.raises(ValueError, match="another process is training"),
            new_run(tmp_path / "other", recipe),
        ):
            pass
        other.kill()
    train(recipe, out, limit_steps=STEPS, resume=True)
    before = (out / "run.json").read_text()
    assert train(recipe, out, limit_steps=STEPS, resume=True) == out
    with pytest.raises(ValueError, match=r"the finished run in .* but seed was 0, is 1"):
        train(replace(recipe, seed=1), out, limit_steps=STEPS, resume=True)
    assert (out / "run.json").read_text() == before


def test_what_does_not_decide_the_weights_may_change(recipe, tmp_path, monkeypatch):
    first = train(recipe, tmp_path / "first", limit_steps=5)
    chosen = override(recipe, [f"model.init={first}", "model.init_lr_mult=0.5"])
    whole = train(chosen, tmp_path / "whole", limit_steps=6)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StoppedError):
            train(chosen, tmp_path / "run", limit_steps=6)
    (first / "weights.safetensors").unlink()  # a checkpoint needs the weights it began with no more
    changed = override(chosen, ["data.num_workers=0", "table.latency_runs=3"])
    out = train(changed, tmp_path / "run", limit_steps=6, resume=True)
    assert_same_weights(whole, out)
