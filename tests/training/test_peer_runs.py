"""Whole runs of networks that teach each other, to the end and after an interruption."""

from __future__ import annotations

import csv
import json
import logging
import sys

import pytest
import torch
from safetensors.torch import load_file

from mutualnet import commands
from mutualnet.cli import main
from mutualnet.config.serialization import read_recipe, write_recipe
from mutualnet.config.transforms import with_teaching
from mutualnet.models import WideResNet
from mutualnet.run_directory import load_run
from mutualnet.training.checkpoints import latest_checkpoint
from mutualnet.training.module import TrainingModule
from mutualnet.training.setup import load_splits, set_up_training
from mutualnet.training.train import train
from tests.small_runs import DCM, SUPERNETS, StoppedError, assert_same_weights, pair, stop_after

METHODS = ("independent", "deep_supervision", "dml", "dks", "dcm")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_ends_with_two_plain_networks_and_their_scores(method, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        out = train(with_teaching(pair(), method), tmp_path / "run", limit_steps=3)
    info = json.loads((out / "run.json").read_text())
    assert info["networks"] == ["network1", "network2"]
    for name in info["networks"]:
        weights = load_file(out / name / "weights.safetensors")
        model = WideResNet(10, 1, 10, in_channels=1)
        model.load_state_dict(weights)
        run = load_run(out / name)
        assert run.recipe.peers == ()
        test = run.info["test"]
        assert test["num_samples"] > 300
        assert f"{name} (mutualnet.models.cifar:WideResNet): test top-1" in caplog.text
        assert f"error {100 - test['value']:.2f} %" in caplog.text
        # Scored in eval mode, by its own running statistics.
        data = load_splits(run.recipe).test
        images = torch.stack([data[i][0] for i in range(len(data))])
        right = model.eval()(images).argmax(1).numpy() == data.labels
        assert 100 * right.mean() == pytest.approx(test["value"])
        assert not list((out / name).glob("heads*"))
    with (out / "logs" / "metrics.csv").open() as file:
        columns = set(next(csv.reader(file)))
    expected = {str(edge) for edge in read_recipe(out / "config.yaml").graph.edges}
    assert expected <= columns
    with pytest.raises(ValueError, match=r"holds several networks; name one of them: .*network1"):
        load_run(out)


def test_a_teacher_teaches_every_network(tmp_path):
    first = train(pair().alone(0), tmp_path / "teacher", limit_steps=2)
    recipe = with_teaching(pair(f"teacher.name={first}", "teacher.alpha=0.75"), "kd")
    setup = set_up_training(recipe)
    module = TrainingModule(setup)
    module.take_step(next(iter(setup.loader())), 0)
    assert set(module.last_losses) == {"ce_1", "kl_1_3", "ce_2", "kl_2_3"}
    out = train(recipe, tmp_path / "run", limit_steps=2)
    assert (out / "network2" / "weights.safetensors").is_file()


def test_one_network_learns_from_its_own_heads_and_is_an_ordinary_run(tmp_path):
    recipe = pair("teaching.method=dks", "teaching.keep_heads=true", "peers=[]")
    out = train(recipe, tmp_path / "run", limit_steps=2)
    run = load_run(out)
    assert "test" in run.info
    assert set(run.supernet.model.state_dict()) == set(load_file(out / "weights.safetensors"))
    heads = load_file(out / "heads.safetensors")
    assert {name.split(".")[0] for name in heads} == {"C2", "C3"}
    commands.make_table(out)
    assert len(load_run(out).table.rows) == 1


def test_tables_are_made_for_each_of_two_supernets(tmp_path):
    space = "space={width_range: [0.5, 1.0], resolutions: [12, 8], width_step: 0.5}"
    out = train(pair(DCM, "method.name=mutualnet", space), tmp_path / "run", limit_steps=2)
    for name in ("network1", "network2"):
        commands.make_table(out / name)
        assert len(load_run(out / name).table.rows) == 4


@pytest.mark.parametrize(
    "settings",
    [
        (DCM, "optimizer.clip_norm=5.0", "optimizer.ema_decay=0.9", "optimizer.accumulate=2"),
        ("teaching.method=dml", "teaching.update=alternating"),
        (DCM, "teaching.optimizers=each", "teaching.checkpoint_heads=true"),
    ],
    ids=["joint", "alternating", "each"],
)
def test_an_interrupted_pair_ends_with_the_weights_of_one_that_was_not(
    settings, tmp_path, monkeypatch
):
    recipe = pair(*settings, "model.kwargs={depth: 10, width_factor: 1, dropout: 0.2}")
    whole = train(recipe, tmp_path / "whole", limit_steps=6)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StoppedError):
            train(recipe, out, limit_steps=6, resume=True)
    step, state = latest_checkpoint(tmp_path / ".run.partial" / "checkpoints")
    assert step == 3
    assert len(state["networks"]) == 2
    train(recipe, out, limit_steps=6, resume=True)
    for name in ("network1", "network2"):
        assert_same_weights(whole / name, out / name)


def test_a_state_of_another_version_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            train(pair(), tmp_path / "run", limit_steps=4)
    monkeypatch.setattr(sys.modules[train.__module__], "READABLE_CHECKPOINTS", (99,))
    with pytest.raises(ValueError, match="written by another version of mutualnet"):
        train(pair(), tmp_path / "run", limit_steps=4, resume=True)


def test_an_interrupted_pair_of_supernets_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    recipe = pair(DCM, *SUPERNETS)
    whole = train(recipe, tmp_path / "whole", limit_steps=4)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            train(recipe, tmp_path / "run", limit_steps=4)
    out = train(recipe, tmp_path / "run", limit_steps=4, resume=True)
    for name in ("network1", "network2"):
        assert_same_weights(whole / name, out / name)


def test_the_command_line_trains_a_pair_and_tells_both_errors(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(pair("teaching.method=independent"), tmp_path / "pair.yaml")
    words = ["train", "pair.yaml", "--epochs", "1", "--limit-steps", "2", "--out", "r"]
    assert main([*words, "--teaching", "dcm"]) == 0
    shown = capsys.readouterr()
    for name in ("network1", "network2"):
        assert f"next: mutualnet table r/{name}" in shown.out
        WideResNet(10, 1, 10, in_channels=1).load_state_dict(
            load_file(tmp_path / "r" / name / "weights.safetensors")
        )
    assert read_recipe(tmp_path / "r" / "config.yaml").teaching.method == "dcm"
    teacher = ["--teaching", "kd", "--teacher", "r/network1"]
    assert main([*words[:-1], "taught", *teacher]) == 0
    assert read_recipe(tmp_path / "taught" / "config.yaml").teacher.name == "r/network1"
