"""Words of the command line: numbers, and what is said of those that are none."""

from __future__ import annotations

import argparse

import pytest

from mutualnet.cli.parser import Parser, WordsError, join_negative_values, number, positive, whole


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [(whole, "-3", -3), (whole, "0", 0), (positive, "7", 7), (number, "1e-3", 0.001)],
)
def test_numbers_are_read(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (whole, "1.5", "must be a whole number, got '1.5'"),
        (positive, "0", "must be a whole number >= 1, got '0'"),
        (positive, "x", "must be a whole number >= 1, got 'x'"),
        (number, "fast", "must be a number, got 'fast'"),
    ],
)
def test_what_is_no_such_number_is_refused(read, text, message):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        read(text)
    assert str(caught.value) == message


def test_errors_are_told_in_our_words():
    parser = Parser(prog="mutualnet table")
    parser.add_argument("run")
    parser.add_argument("--batch", type=positive)
    for words, message in (
        (["r", "--batch", "0"], "--batch must be a whole number >= 1, got '0'"),
        (["r", "--batch"], "--batch needs one value"),
    ):
        with pytest.raises(WordsError) as caught:
            parser.parse_args(words)
        assert str(caught.value) == f"{message}. See `mutualnet table --help`."


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["--budget", "-5M"], ["--budget=-5M"]),
        (["--lr", "-.5x"], ["--lr=-.5x"]),
        (["--seed", "-5"], ["--seed", "-5"]),  # argparse knows plain numbers itself
        (["-5M"], ["-5M"]),
        (["run", "-5M"], ["run", "-5M"]),
        (["--budget", "5M", "--json"], ["--budget", "5M", "--json"]),
    ],
)
def test_a_negative_value_with_a_unit_is_no_option(words, joined):
    assert join_negative_values(words) == joined
