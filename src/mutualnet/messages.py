"""What is said to people: text as it is, whatever its parts come from."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence

_UNSEEN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's control characters, halves of pairs (bytes that are no text), ends of lines."""


def printable(text: str) -> str:
    """Text in which a name can neither steer a terminal nor fail to be written.

    Control characters but line ends, and bytes of a file name that are no UTF-8, are shown as
    Python writes them.
    """
    return "".join(
        repr(c)[1:-1] if c != "\n" and unicodedata.category(c) in _UNSEEN else c for c in text
    )


def first_line(error: BaseException | None) -> str:
    """The first line of an exception's text, empty if it has none."""
    lines = str(error).strip().splitlines() if error is not None else []
    return lines[0] if lines else ""


def reason_of(error: BaseException) -> str:
    """What an exception says in one line, or its type where it says nothing."""
    return first_line(error) or type(error).__name__


def shorten(items: Sequence[str], num_shown: int = 3) -> str:
    """List the first items and count the others."""
    rest = len(items) - num_shown
    return ", ".join(items[:num_shown]) + (f" and {rest} more" if rest > 0 else "")


def unreadable_images(errors: Sequence[str], num_images: int, kind: str = "image") -> str:
    """What is wrong with some of the images that were asked for, counted if there are several.

    Args:
        errors: One for each image that cannot be read; it names the image.
        num_images: All that were asked for.
        kind: What they are, if not images.
    """
    count = f"{len(errors)} of {num_images} {kind}s cannot be read: " if num_images > 1 else ""
    return f"{count}{'; '.join(errors)}"


def without_numbers(file: str) -> str:
    """What is wrong with a file on which a network computes NaN.

    Args:
        file: Its name for people.
    """
    return f"{file} must give finite probabilities, but the network computes NaN on it"


class ReportedElsewhereError(ValueError):
    """A mistake that another of several processes tells, so that it is said once."""


class LogFormatter(logging.Formatter):
    """Lines of a log as they are printed."""

    def format(self, record: logging.LogRecord) -> str:
        """The message alone."""
        return printable(super().format(record))
