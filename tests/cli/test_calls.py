"""Options of `train` that are short for keys of the recipe."""

from __future__ import annotations

import logging

import pytest

from mutualnet.cli import main
from mutualnet.commands import train as train_command
from mutualnet.run_directory import load_run
from mutualnet.training.train import train
from tests.refusals import the_one_line
from tests.small_runs import digits


@pytest.fixture
def asked(monkeypatch):
    """The recipes that `train` was told to train or to try, without doing it."""
    recipes = []
    for name in ("train", "_print_dry_run"):
        monkeypatch.setattr(train_command, name, lambda recipe, *_, **__: recipes.append(recipe))
    monkeypatch.setattr(train_command, "networks_of", lambda path: [])
    return recipes


WORDS = ["--batch-size", "30", "--lr", "0.02", "--workers", "3", "--model", "timm:resnet18"]


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_each_is_short_for_its_key(asked, more):
    assert main(["train", "digits_demo", *WORDS, *more]) == 0
    (recipe,) = asked
    assert (recipe.data.batch_size, recipe.data.num_workers) == (30, 3)
    assert (recipe.optimizer.lr, recipe.model.name) == (0.02, "timm:resnet18")
    assert recipe.model.kwargs == {}  # those of the old network


def test_help_names_the_keys(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = "".join(capsys.readouterr().out.split())
    for option, key in (
        ("--batch-size", "(data.batch_size)"),
        ("--lr", "(optimizer.lr)"),
        ("--workers", "(data.num_workers)"),
        ("--model", "(model.name)"),
    ):
        assert option in text
        assert key in text


@pytest.mark.parametrize("name", ["runs/😀", "runs/\udcff", "a: b", 'a"b', "null", "é" * 200])
def test_weights_may_have_any_name(asked, name):
    assert main(["train", "digits_demo", "--init", name, "--teacher", name]) == 0
    assert (asked[0].model.init, asked[0].teacher.name) == (name, name)


def test_set_has_the_last_word(asked):
    assert main(["train", "digits_demo", *WORDS, "--set", "data.batch_size=31"]) == 0
    assert asked[0].data.batch_size == 31


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch-size", "1"], "batch_size must be >= 2"),
        (["--lr", "0"], "lr must be > 0, got 0"),
        (["--lr", "fast"], "--lr"),
        (["--workers", "-1"], "num_workers must be >= 0"),
        (["--model", "resnet0"], "no network is called 'resnet0'"),
    ],
)
def test_a_wrong_value_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits_demo", *words]) == 2
    assert message in the_one_line(capsys.readouterr().err)


def test_the_groups_are_told_once_when_a_network_trains(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(digits("space.resolutions=[8]"), tmp_path / "run", limit_steps=1)
    assert caplog.text.count("elastic channel groups") == 1
    caplog.clear()
    load_run(tmp_path / "run")
    assert "elastic channel groups" not in caplog.text
