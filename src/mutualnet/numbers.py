"""What must hold of every number that a user sets, and how measured ones are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

_END = 2**53
"""From here on floats skip whole numbers."""

_LARGEST = 3.4e38
"""About the largest float of single precision, in which networks train."""


def check_numbers(config: Any) -> None:
    """Refuse a dataclass with a number that is infinite, not a number, or too large to count with.

    Args:
        config: Its lists and mappings are looked into, other dataclasses are not.

    Raises:
        ValueError: If there is one. It names the field.
    """
    for field in fields(config):
        check_countable(field.name, getattr(config, field.name))
        for value in _numbers(getattr(config, field.name)):
            if not abs(value) <= _LARGEST:  # refuses NaN too
                raise ValueError(f"{field.name} must be a finite number, got {value}")


def check_countable(name: str, value: Any) -> None:
    """Refuse a whole number that is too large for a float, in lists and mappings too.

    Args:
        name: What it is called.
        value: Of any kind.

    Raises:
        ValueError: If there is one.
    """
    for number in _numbers(value):
        if isinstance(number, int) and abs(number) >= _END:
            raise ValueError(f"{name} must lie below 2**53, got a larger number")


def in_digits(value: float, digits: int) -> str:
    """A number in some significant digits; of longer ones the whole part, 54518 and no 5.45e+04.

    Args:
        value: Such as a cost in millions of multiply-adds, or in milliseconds.
        digits: At least so many, but for zeros at the end.
    """
    text = f"{value:.{digits}g}"
    return text if abs(float(text)) < 10**digits else f"{value:.0f}"


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)
