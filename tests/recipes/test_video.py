"""Recipes on videos have the settings of their papers."""

from __future__ import annotations

import pytest

from mutualnet.config import override
from mutualnet.models import create_model
from mutualnet.recipes import load_recipe

SETTINGS = {
    # name: frames, frames and stride of a clip, epochs, warm-up, batch, rate, decay
    "kinetics400_slow8x8": ((8, 5, 3), (8, 8), 196, 34, 64, 0.1, 1e-4),
    "kinetics400_slowfast4x16": ((4, 3, 2), (32, 2), 196, 34, 64, 0.1, 1e-4),
    "kinetics400_x3d_m": ((16, 13, 10, 6), (16, 5), 300, 35, 128, 0.1, 5e-5),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_the_papers(name):
    recipe = load_recipe(name)
    frames, clip, epochs, warmup, batch_size, lr, decay = SETTINGS[name]
    assert recipe.space.frames == frames
    assert (recipe.space.width_range, recipe.space.resolutions[0]) == ((0.63, 1), 224)
    assert (recipe.clip_options["num_frames"], recipe.clip_options["stride"]) == clip
    assert recipe.num_views == 10
    optimizer = recipe.optimizer
    assert (optimizer.epochs, optimizer.warmup_epochs) == (epochs, warmup)
    assert (optimizer.lr, optimizer.weight_decay, optimizer.schedule) == (lr, decay, "cosine")
    assert (recipe.data.batch_size, optimizer.decay_all) == (batch_size, False)
    assert create_model(recipe.model.name, num_classes=400).dropout.p == 0.5


def test_a_clip_has_the_most_frames_that_a_sub_network_sees_unless_it_says_more():
    recipe = load_recipe("kinetics400_x3d_m")
    assert override(recipe, ["space.frames=[10, 6]"]).clip_options["num_frames"] == 10
    longer = override(recipe, ["space.frames=[10, 6]", "clips.num_frames=20"])
    assert longer.clip_options["num_frames"] == 20


def test_thirty_views_are_one_switch_away():
    assert override(load_recipe("kinetics400_slow8x8"), ["clips.num_crops=3"]).num_views == 30


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("clips.num_crops=2", "clips.num_crops must be 1 or 3, got 2"),
        ("clips.stride=0", "clips.stride must be >= 1, got 0"),
        ("clips.num_frames=0", "clips.num_frames must be >= 1, got 0"),
        ("clips.frames=3", "clips.frames"),
    ],
)
def test_clips_are_checked(setting, message):
    with pytest.raises(ValueError, match=message):
        override(load_recipe("ucf6_x3d"), [setting])


def test_recipes_of_images_have_no_clips():
    recipe = load_recipe("imagenet_resnet50")
    assert (recipe.clip_options, recipe.num_views) == ({}, 1)
