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
        (Axis.around([-4, 40_000], ""), [0, 10_000, 20_000, 30_000, 40_000]),
    ],
)
def test_ticks_are_round(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)
    assert all(0 <= axis.place(tick) <= 1 for tick in axis.ticks())
