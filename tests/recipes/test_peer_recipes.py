"""What a recipe says of networks that teach each other, and what it must not say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mutualnet.cli import main
from mutualnet.config.serialization import write_recipe
from mutualnet.config.transforms import with_method, with_teaching
from mutualnet.space import Subnet
from mutualnet.training.setup import set_up_training
from tests.small_runs import DCM, pair

ROOT = Path(__file__).resolve().parents[2]


def test_networks_of_a_pair_begin_with_different_weights_and_the_first_as_it_would_alone():
    first, second = (own.supernet.model for own in set_up_training(pair(DCM)).networks)
    (alone,) = set_up_training(pair(DCM).alone(0)).networks
    assert not torch.equal(first.stem.weight, second.stem.weight)
    assert torch.equal(first.stem.weight, alone.supernet.model.stem.weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["teaching.method=kd"], "method kd needs a trained teacher: --teacher"),
        (["peers=[]", DCM], "method dcm needs at least two networks"),
        (["teaching.method=magic"], "teaching.method must be one of independent, deep_super"),
        ([DCM, "teaching.head_names=[]"], "method dcm needs auxiliary heads"),
        ([DCM, "teaching.head_names=[C9]"], "must be among C2, C3, C4, got C9"),
        ([DCM, "model.heads=nowhere"], "network nowhere has no auxiliary heads"),
        ([DCM, "model.heads=tests.plain_net:nothing"], "'tests.plain_net:nothing' cannot be im"),
        ([DCM, "model.heads=tests.plain_net:plain_heads"], "must return the heads C2, C3, got inn"),
        (
            [DCM, "space={width_range: [0.5, 0.5], resolutions: [12], model_width_mult: 1.0}"],
            "full",
        ),
        (
            ["peers.0.model={name: tests.plain_net:seven_classes}"],
            r"for each of the 10 classes of the data, got outputs \(2, 7\)",
        ),
        (
            [
                "model={name: tests.plain_net:always_the_same}",
                "peers.0.model={name: tests.plain_net:always_the_same}",
            ],
            "networks 1 and 2 share some",
        ),
        (["teaching.update=alternating", "optimizer.accumulate=2"], "alternating updates need"),
        (["teaching.tau=0"], "tau must be > 0"),
        (["teaching.same_stage_weight=-1"], "same_stage_weight must be >= 0"),
        (["data.label_noise=1.5"], r"label_noise must lie in \[0, 1\]"),
        (
            ["peers.0.model.nam=x"],
            "a recipe has no key peers.0.model.nam. Did you mean peers.0.model.name",
        ),
        (["peers.0={model: {name: wrn16_1}}"], "must name a value of one peer"),
        (["peers.optimizer.lr=1"], "the number in peers.optimizer must be below 1"),
        (["peers.5.model.name=x"], "the number in peers.5 must be below 1"),
        (["peers.0.modle.name=x"], "no key peers.0.modle. Did you mean peers.0.model?"),
        (["peers.0.optimizer.clip_norm=1.0"], "clip_norm is the whole gradient's"),
        (
            ["peers.0.optimizer.clip_norm=1.0", "teaching.update=alternating"],  # nobody teaches
            "clip_norm is the whole gradient's",
        ),
        ([DCM, "model.heads=tests.plain_net:odd_heads", "teaching.head_names=[half]"], "'half'"),
        (
            ["peers.0.optimizer={lr: 0.1, epochs: 7}"],
            "every peer's epochs must be 2, got 7",
        ),
    ],
)
def test_pairs_that_cannot_train_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        set_up_training(pair(*settings))


def test_values_of_one_peer_are_set_by_its_number():
    recipe = pair("peers.0.model.kwargs={depth: 16, width_factor: 1}")
    assert recipe.models[1].kwargs["depth"] == 16
    assert recipe.models[0].kwargs["depth"] == 10


def test_a_method_keeps_the_space_unless_asked():
    recipe = pair("space={width_range: [0.25, 1.0], resolutions: [12, 8]}", "method.name=mutualnet")
    taught = with_teaching(recipe, "dcm")
    assert (taught.space, taught.method) == (recipe.space, recipe.method)
    assert taught.teaching.method == "dcm"
    alone = with_method(with_teaching(taught, "independent"), "independent")
    assert alone.teaching.method == "independent"
    assert alone.space.width_range == (1.0, 1.0)
    wider = with_method(taught, None, width_range=(0.5, 1.0))
    assert wider.teaching.method == "dcm"
    assert wider.space.smallest == Subnet(width_mult=0.5, resolution=8)


def test_single_values_of_a_peers_schedule_start_from_the_recipes_own():
    recipe = pair("peers.0.optimizer.lr=0.02", "optimizer.epochs=3", "optimizer.weight_decay=0.1")
    assert (recipe.optimizer.epochs, recipe.optimizer.weight_decay) == (3, 0.1)
    assert recipe.optimizers[1] == replace(recipe.optimizer, lr=0.02)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teaching", "kd"], "method kd needs a trained teacher"),
        (
            ["--teaching", "dcm", "--set", "model.heads=tests.plain_net:lost_heads"],
            "no module 'stage9'",
        ),
        (
            ["--set", "peers.0.model={name: tests.plain_net:seven_classes}"],
            "each of the 10 classes",
        ),
        (
            [
                "--set",
                "model={name: tests.plain_net:always_the_same}",
                "peers.0.model={name: tests.plain_net:always_the_same}",
            ],
            "every network must be given once",
        ),
        (["--set", "peers=[]", "--teaching", "dml"], "at least two networks"),
    ],
)
def test_mistakes_with_pairs_are_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(tmp_path)
    write_recipe(pair(), tmp_path / "pair.yaml")
    assert main(["train", "pair.yaml", "--out", "r", *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("mutualnet: ")
    assert message in lines[-1]
    assert not (tmp_path / "r").exists()
