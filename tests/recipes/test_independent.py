"""Networks trained alone, one for each configuration."""

from __future__ import annotations

from mutualnet.config import override, with_method
from mutualnet.methods import METHODS
from mutualnet.recipes import independent_grid, load_recipe


def test_the_independent_grid_has_every_configuration_once():
    grid = independent_grid(load_recipe("imagenet_mobilenet_v1"))
    assert len({recipe.name for recipe in grid}) == 16
    assert {recipe.method.name for recipe in grid} == {"independent"}
    found = {(r.space.largest.width_mult, r.space.largest.resolution) for r in grid}
    assert found == {(w, r) for w in (1, 0.75, 0.5, 0.25) for r in (224, 192, 160, 128)}
    for recipe in grid:
        assert len(recipe.space.grid()) == 1


def test_the_independent_grid_of_clips_has_every_number_of_frames_of_the_same_clips():
    recipe = load_recipe("ucf6_x3d")
    grid = independent_grid(recipe, widths=(1.0, 0.5))
    found = {(r.space.largest.width_mult, *r.space.resolutions, *r.space.frames) for r in grid}
    assert found == {(w, s, f) for w in (1, 0.5) for s in (64, 48) for f in (8, 6, 4)}
    assert {r.clip_options["num_frames"] for r in grid} == {8}
    assert len({r.name for r in grid}) == 12
    assert grid[-1].name == "ucf6_x3d_alone_0.5x48x4f"


def test_a_network_alone_runs_no_random_subnetworks_of_the_supernets():
    recipe = override(load_recipe("cifar100_wrn16_1"), ["method.num_random=4"])
    assert with_method(recipe, "gradaug").method.num_random == 4
    for alone in independent_grid(recipe, widths=(1.0,)):
        assert alone.method.value == METHODS["independent"]
    assert with_method(recipe, "s_net").method.value == METHODS["s_net"]
