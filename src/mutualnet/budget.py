"""Budgets as people write them: 150M multiply-adds, 8ms."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mutualnet.numbers import in_digits

_MACS = {"K": 1e3, "M": 1e6, "G": 1e9}
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """The most multiply-adds of one input, the highest latency, or both."""

    macs: float | None = None
    latency_ms: float | None = None

    def __str__(self) -> str:
        parts = [] if self.macs is None else [f"{in_digits(self.macs / 1e6, 6)}M multiply-adds"]
        parts += [] if self.latency_ms is None else [f"{in_digits(self.latency_ms, 6)} ms"]
        return " and ".join(parts)

    def fits(self, macs: float, latency_ms: float | None) -> bool:
        """Whether costs lie within it.

        Args:
            macs: Multiply-adds of one input.
            latency_ms: None where it was not measured: then no budget of latency is met.
        """
        if self.macs is not None and macs > self.macs:
            return False
        if self.latency_ms is None:
            return True
        return latency_ms is not None and latency_ms <= self.latency_ms

    def __and__(self, other: Budget) -> Budget:
        """What fits into both."""
        return Budget(
            macs=_least(self.macs, other.macs),
            latency_ms=_least(self.latency_ms, other.latency_ms),
        )


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def parse_budget(text: str) -> Budget:
    """Read a budget with its unit: `150M`, `1.5G`, `500K` multiply-adds, or `8ms`, `0.2s`, `900us`.

    Raises:
        ValueError: If there is no number, no unit or another unit, or the number is not positive.
    """
    match = re.fullmatch(r"\s*([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ]*)\s*", text)
    units = "K, M or G (multiply-adds), or us, ms or s (latency)"
    if match is None:
        raise ValueError(f"a budget must be a number with a unit, 150M or 8ms, got {text!r}")
    value, unit = float(match[1]), match[2]
    if not unit:
        raise ValueError(f"a budget needs a unit, {units}, got {text!r}. Did you mean {text}M?")
    if unit not in _MACS and unit not in _MILLISECONDS:
        raise ValueError(f"the unit of a budget must be {units}, got {unit!r} in {text!r}")
    value *= _MACS[unit] if unit in _MACS else _MILLISECONDS[unit]
    if not value > 0 or not math.isfinite(value):
        raise ValueError(f"a budget must be > 0 and finite, got {text!r}")
    return Budget(macs=value) if unit in _MACS else Budget(latency_ms=value)


def parse_budgets(texts: Iterable[str]) -> Budget:
    """Read budgets that must all hold; without any there is no limit.

    Raises:
        ValueError: As `parse_budget` does.
    """
    limit = Budget()
    for text in texts:
        limit &= parse_budget(text)
    return limit
