"""Axes whose ticks people can read."""

from __future__ import annotations

import pytest

from mutualnet.svg_chart import Axis


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis.around([0, 10], ""), [0, 2, 4, 6, 8, 10]),
        (Axis.around([3, 3], "", is_whole=True), [3]),
        (Axis.around([1, 400], "", may_be_log=True), [1, 2, 5, 10, 20, 50, 100, 200, 500]),
        (Axis.around([1, 3], "", may_be_log=True), [1, 1.5, 2, 2.5, 3]),
        (Axis.around([2e-9, 5], "", may_be_log=True), [10.0**n for n in range(-9, 2)]),
        (Axis.around([-4, 40_000], ""), [0, 10_000, 20_000, 30_000, 40_000]),
    ],
)
def test_ticks_are_round(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)
    assert all(0 <= axis.place(tick) <= 1 for tick in axis.ticks())


@pytest.mark.parametrize(
    "values", [[-1e308, 1e308], [1e-320, 1e308], [5e-324], [0, 1e-320], [1e308], [1e-30, 1e3]]
)
@pytest.mark.parametrize("may_be_log", [False, True])
def test_any_finite_numbers_have_a_place_and_a_few_ticks(values, may_be_log):
    axis = Axis.around(values, "", may_be_log=may_be_log)
    assert len(axis.ticks()) <= 22
    assert all(0 <= axis.place(value) <= 1 for value in values)
