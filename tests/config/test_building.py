"""Recipes from plain values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mutualnet.config.serialization import override, read_recipe, write_recipe
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


@pytest.mark.parametrize("path", ["null", "~", "none", "true", "12", "1e3", "[a]", "", "é😀\udcff"])
def test_a_folder_may_be_called_like_another_value(path, tmp_path):
    recipe = load_recipe("digits_demo")
    recipe = replace(recipe, data=replace(recipe.data, path=path), description=path)
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    assert override(recipe, ["seed=3"]).data.path == path
    assert override(recipe, ["optimizer.clip_norm='null'"]).optimizer.clip_norm is None
