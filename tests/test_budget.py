"""Budgets as people write them."""

from __future__ import annotations

import pytest

from mutualnet.budget import Budget, parse_budget, parse_budgets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("150M", Budget(macs=150e6)),
        (" 1.5 G ", Budget(macs=1.5e9)),
        (".5K", Budget(macs=500)),
        ("8ms", Budget(latency_ms=8)),
        ("0.2s", Budget(latency_ms=200)),
        ("900us", Budget(latency_ms=0.9)),
        ("1e2M", Budget(macs=1e8)),
    ],
)
def test_numbers_carry_units(text, expected):
    budget = parse_budget(text)
    assert budget.macs == pytest.approx(expected.macs) if expected.macs else budget.macs is None
    if expected.latency_ms:
        assert budget.latency_ms == pytest.approx(expected.latency_ms)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", r"needs a unit, K, M or G .* got '1'. Did you mean 1M\?"),
        ("8parsecs", "the unit of a budget must be .* got 'parsecs'"),
        ("8m", "the unit of a budget must be .* got 'm'"),
        ("fast", "must be a number with a unit, 150M or 8ms, got 'fast'"),
        ("", "must be a number with a unit"),
        ("-3M", "must be > 0 and finite, got '-3M'"),
        ("0M", "must be > 0 and finite, got '0M'"),
        ("1e999M", "must be > 0 and finite"),
        ("1e305M", "must be > 0 and finite, got '1e305M'"),
        ("1e-323us", "must be > 0 and finite"),
    ],
)
def test_anything_else_gets_one_line_that_tells_the_units(text, message):
    with pytest.raises(ValueError, match=message):
        parse_budget(text)


def test_a_budget_reads_well():
    assert str(parse_budget("1.5G")) == "1500M multiply-adds"
    assert str(parse_budget("0.2s")) == "200 ms"
    assert str(parse_budget("1234.5G")) == "1234500M multiply-adds"


def test_two_budgets_hold_together():
    both = parse_budget("150M") & parse_budget("8ms") & parse_budget("90M")
    assert both == Budget(macs=90e6, latency_ms=8)
    assert str(both) == "90M multiply-adds and 8 ms"


def test_costs_fit_a_budget_up_to_its_bounds():
    both = Budget(macs=10, latency_ms=2)
    assert both.fits(10, 2)
    assert not both.fits(11, 2)
    assert not both.fits(10, 2.1)
    assert not both.fits(10, None)
    assert Budget(macs=10).fits(10, None)
    assert not Budget(latency_ms=2).fits(1, None)


def test_several_budgets_must_all_hold():
    assert parse_budgets(["150M", "8ms", "1G"]) == Budget(macs=150e6, latency_ms=8)
    assert parse_budgets([]) == Budget()
