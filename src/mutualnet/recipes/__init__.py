"""Recipes by name: functions that return one typed config each."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from mutualnet.config import Recipe, read_recipe
from mutualnet.recipes import (
    cifar,
    detection,
    digits,
    imagefolder,
    imagenet,
    pairs,
    slimmable,
    transfer,
    video,
)
from mutualnet.recipes.independent import independent_grid
from mutualnet.user_functions import call_function

__all__ = ["RECIPES", "independent_grid", "load_recipe"]

RECIPES: dict[str, Callable[[], Recipe]] = {
    function().name: function
    for function in (
        digits.digits_demo,
        cifar.cifar10_wrn16_1,
        cifar.cifar10_wrn16_4,
        cifar.cifar10_wrn28_10,
        cifar.cifar10_mobilenet_v1,
        cifar.cifar100_wrn16_1,
        cifar.cifar100_wrn16_4,
        cifar.cifar100_wrn28_10,
        cifar.cifar100_mobilenet_v1,
        imagefolder.imagefolder_mobilenet_v1,
        imagefolder.multilabel_mobilenet_v1,
        imagenet.imagenet_mobilenet_v1,
        imagenet.imagenet_mobilenet_v2,
        imagenet.imagenet_resnet50,
        imagenet.imagenet_seresnet50,
        imagenet.imagenet_mobilenet_v1_scaled,
        imagenet.imagenet_mobilenet_v1_compound,
        slimmable.imagenet_mobilenet_v1_s_net,
        slimmable.imagenet_mobilenet_v2_s_net,
        slimmable.imagenet_resnet50_s_net,
        detection.coco_mask_rcnn_vgg16,
        detection.coco_mask_rcnn_resnet50,
        detection.nuclei_mask_rcnn,
        transfer.cifar100_mobilenet_v1_transfer,
        transfer.food101_mobilenet_v1,
        transfer.indoor67_mobilenet_v1,
        video.kinetics400_slow8x8,
        video.kinetics400_slowfast4x16,
        video.kinetics400_x3d_m,
        video.ucf6_x3d,
    )
} | pairs.PAIRS


def load_recipe(name: str) -> Recipe:
    """Find a recipe.

    Args:
        name: One of `RECIPES`, a YAML file that holds one, or `package.module:function` for a
            function of yours that returns one.

    Raises:
        ValueError: If there is no such recipe.
    """
    if name in RECIPES:
        return RECIPES[name]()
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"no recipe file {name}")
        return read_recipe(path)
    if ":" in name:
        recipe = call_function(name, "recipe")
        if not isinstance(recipe, Recipe):
            raise ValueError(f"{name} must return a Recipe, got {type(recipe).__name__}")
        return recipe
    close = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(RECIPES)}."
    raise ValueError(f"no recipe is called {name!r}. {hint}")
