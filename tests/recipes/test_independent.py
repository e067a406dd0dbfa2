"""Networks trained alone, one for each configuration."""

from __future__ import annotations

from mutualnet.recipes import independent_grid, load_recipe


def test_the_independent_grid_has_every_configuration_once():
    grid = independent_grid(load_recipe("imagenet_mobilenet_v1"))
    assert len({recipe.name for recipe in grid}) == 16
    assert {recipe.method.name for recipe in grid} == {"independent"}
    found = {(r.space.largest.width_mult, r.space.largest.resolution) for r in grid}
    assert found == {(w, r) for w in (1, 0.75, 0.5, 0.25) for r in (224, 192, 160, 128)}
    for recipe in grid:
        assert len(recipe.space.grid()) == 1
