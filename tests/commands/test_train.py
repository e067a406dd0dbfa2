"""`mutualnet train`, as a user types it."""

from __future__ import annotations

import pytest

from mutualnet.cli import main
from mutualnet.config.serialization import read_recipe
from mutualnet.run_directory import load_run
from tests.small_runs import StoppedError, stop_after
from tests.typed import SMALL, complaint


def test_a_diverged_training_ends_with_status_one(tmp_path, capsys):
    words = ["train", "digits_demo", "--out", str(tmp_path / "run"), "--limit-steps", "20", "--set"]
    words += ["optimizer.lr=1e30", "optimizer.warmup_epochs=0", "compute.precision=fp32"]
    line = complaint(capsys, [*words, "compute.memory_format=contiguous"], status=1)
    assert "Lower optimizer.lr" in line
    assert "What was written so far is in" in line


def test_methods_widths_and_distillation_are_switches(tmp_path):
    out = tmp_path / "run"
    words = ["train", "digits_demo", "--out", str(out), "--limit-steps", "1"]
    words += ["--method", "us_net", "--width-range", "0.5", "1", "--resolutions", "12", "8"]
    assert main([*words, "--distill", "off", "--set", *SMALL]) == 0
    recipe = load_run(out).recipe
    assert (recipe.method.name, recipe.method.distill) == ("us_net", False)
    assert (recipe.space.width_range, recipe.space.resolutions) == ((0.5, 1.0), (12, 8))


def test_a_run_can_start_from_and_learn_from_another(tmp_path):
    words = ["train", "digits_demo", "--limit-steps", "1", "--out"]
    assert main([*words, str(tmp_path / "a"), "--set", *SMALL]) == 0
    more = ["--init", str(tmp_path / "a"), "--teacher", str(tmp_path / "a")]
    assert main([*words, str(tmp_path / "b"), *more, "--set", *SMALL]) == 0
    recipe = load_run(tmp_path / "b").recipe
    assert recipe.model.init == recipe.teacher.name == str(tmp_path / "a")


def test_a_finished_run_is_not_trained_again_and_an_absent_one_begins(tmp_path, caplog):
    words = ["train", "digits_demo", "--limit-steps", "1", "--resume", "--out", str(tmp_path / "a")]
    assert main([*words, "--set", *SMALL]) == 0
    before = (tmp_path / "a" / "run.json").read_text()
    assert main([*words, "--set", *SMALL]) == 0
    assert (tmp_path / "a" / "run.json").read_text() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume"], "--resume needs the --out"),
        (["--method", "magic"], "method must be one of mutualnet, us_net"),
        (["--method", ""], "method must be one of mutualnet, us_net"),
        (["--distill", "maybe"], "--distill"),
        (["--width-range", "0.9", "0.5"], "width_range must satisfy 0 < low <= high"),
        (["--init", "nowhere.pth"], "must come from timm:NAME, a run directory or a file"),
        (["--init", "timm:resnet0"], "timm has no network 'resnet0'"),
        (["--teaching", "dml"], "method dml needs at least two networks"),
        (["--out", "file/run"], "--out must be a directory that can be made, got file/run"),
        (["--init", "file"], "file cannot be read as weights: it must be a safetensors file"),
        (["--teacher", "file"], "file must be a run directory that `mutualnet train` made, got a"),
        (
            ["--set", "model.kwargs={}", "model.name=math:sqrt"],
            "math:sqrt must take all of model.kwargs",
        ),
        (
            ["--set", "model.kwargs={}", "model.name=tests.plain_net:only_evaluates"],
            "the network must run in train mode, but fails on images (2, 1, 16, 16) (KeyError",
        ),
        (
            ["--model", "torchvision:googlenet", "--resolutions", "32"],
            "in train mode outputs must be one tensor of logits (N, K), got GoogLeNetOutputs. "
            "Build the network without auxiliary outputs, or return its logits alone. Set "
            "model.kwargs.aux_logits=false.",
        ),
        (["--teacher", "nowhere"], "nowhere must be a run directory"),
        (["--set", "task=guessing"], "task must be action_recognition, classification,"),
        (["--set", "method.name=s_net"], "s_net trains a fixed list of widths"),
    ],
)
def test_options_that_cannot_be_met_are_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("hi")
    assert message in complaint(capsys, ["train", "digits_demo", *words])
    assert not list(tmp_path.glob("runs/*"))


def test_every_set_counts_and_peers_may_come_after_their_method(tmp_path):
    out = tmp_path / "run"
    words = ["train", "digits_demo", "--out", str(out), "--limit-steps", "1", "--teaching", "dml"]
    words += ["--set", "peers=[{model: {name: wrn16_1}}]", "--set", "data.batch_size=30"]
    assert main([*words, "--set", *SMALL]) == 0
    recipe = read_recipe(out / "config.yaml")
    assert (len(recipe.models), recipe.data.batch_size) == (2, 30)
    assert recipe.compute.precision == "fp32"


def test_a_limited_run_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    words = ["train", "digits_demo", "--out", str(tmp_path / "run"), "--limit-steps", "3"]
    words += ["--resume", "--set", "checkpoint_minutes=0", *SMALL]
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            main(words)
    assert main(words) == 0
    assert load_run(tmp_path / "run").info["resumed_after_step"] == 2


def test_a_full_disk_is_one_line_and_status_one(tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mutualnet.training.finish.save_run", refuse)
    words = ["train", "digits_demo", "--limit-steps", "1", "--out", str(tmp_path / "a"), "--set"]
    settings = [*SMALL, "checkpoint_minutes=0"]
    line = complaint(capsys, [*words, *settings], status=1)
    assert "No space left on device" in line
    assert "continue with --resume" in line
