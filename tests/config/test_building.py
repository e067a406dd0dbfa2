"""Recipes from plain values."""

from __future__ import annotations

from mutualnet.config.serialization import override
from mutualnet.recipes import load_recipe


def test_widths_that_a_method_never_trains_leave_the_space(caplog):
    recipe = load_recipe("cifar10_wrn16_1")
    alone = override(recipe, ["method.name=independent"])
    assert alone.space.width_range == (1.0, 1.0)
    assert alone.space.resolutions == recipe.space.resolutions  # run at all, trained at the top
    assert "method independent trains the widths 1 alone" in caplog.text
    ends = override(recipe, ["method.num_random=0"])
    assert ends.space.widths == (1.0, 0.25)
    caplog.clear()
    assert override(ends, ["seed=5"]).space == ends.space
    assert not caplog.records
