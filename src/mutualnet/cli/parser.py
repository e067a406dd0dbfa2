"""Python's parser of command lines, with errors in our words, and the numbers it reads."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn


class WordsError(Exception):
    """The words of the command line are none that it knows."""


class Parser(argparse.ArgumentParser):
    """Leaves it to its caller to say what is wrong, and says it in our words."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong."""
        text = message.removeprefix("argument ").replace(": must be ", " must be ", 1)
        text = re.sub(r": expected (.+) argument(s?)$", r" needs \1 value\2", text)
        raise WordsError(f"{text}. See `{self.prog} --help`.")


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None


def positive(text: str) -> int:
    """A whole number from 1 on."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return count


def number(text: str) -> float:
    """Any number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def join_negative_values(words: Sequence[str]) -> list[str]:
    """Join `--budget -5M` to one word: argparse takes all but plain numbers for an option then."""
    joined: list[str] = []
    for word in words:
        is_value = re.match(r"-[\d.]", word) and not re.fullmatch(r"-\d*\.?\d+", word)
        if is_value and joined and re.fullmatch(r"--[\w-]+", joined[-1]):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined
