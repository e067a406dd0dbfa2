"""What can be typed: every command says what it is, and each of its options what it does."""

from __future__ import annotations

import argparse

import pytest

from mutualnet.cli.calls import CALLS
from mutualnet.cli.words import make_parser


def _commands() -> dict[str, argparse.ArgumentParser]:
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("no commands")


def test_every_command_has_its_call():
    assert list(_commands()) == list(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_every_command_and_option_says_what_it_is(name):
    assert f"  mutualnet {name}" in make_parser().description
    command = _commands()[name]
    assert command.description.endswith(".")
    for action in command._actions:
        assert action.help, f"{name} {action.dest}"


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["predict", "r", "a.png"], {"output": "text", "budget": [], "trust": False}),
        (["predict", "r", "a.png", "--csv"], {"output": "csv"}),
        (["predict", "r", "a", "--budget", "5M", "--budget", "8ms"], {"budget": ["5M", "8ms"]}),
        (
            ["train", "x", "--set", "a=1", "b=2", "--set", "c=3"],
            {"settings": ["a=1", "b=2", "c=3"]},
        ),
        (["export", "r", "--no-measure"], {"measure": False, "configs": "front"}),
    ],
)
def test_words_become_values(words, values):
    found = vars(make_parser().parse_args(words))
    assert {name: found[name] for name in values} == values
