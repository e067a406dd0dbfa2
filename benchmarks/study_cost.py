"""What a run of a study costs, from its multiply-adds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from benchmarks.study_scales import Scale
from benchmarks.study_values import StudyRun
from mutualnet.config import Recipe
from mutualnet.cost import CostModel
from mutualnet.models import create_model
from mutualnet.space import ElasticSpace
from mutualnet.supernet import Supernet

_IMAGES = {"cifar10": (50_000, 10), "cifar100": (50_000, 100), "digits": (1_347, 10)}
"""Train images, select split included, and classes."""
_HEADS = {"narrow": 0.6, "apfc": 0.06}
"""Of a step, what such heads and their divergences add; measured on pairs of WRN-16-2."""
_HEAD = {0: 0.0, 1: 1.0, 2: 1.4, 3: 1.9}
"""The same for published heads, by their number."""
_DRAWS = 50


@cache
def hours_of(run: StudyRun, scale: Scale) -> float:
    """Hours of training, estimated; runs that must be there first are not in it.

    Args:
        run: Which one.
        scale: Says how fast its machine is.
    """
    recipe = run.recipe_of(0)
    images, classes = _IMAGES[run.data]
    share = recipe.data.train_share * (1 - recipe.data.select_share)
    per_image = sum(_macs(recipe, number, classes) for number in range(len(recipe.models)))
    teacher = _macs(recipe, 0, classes) / 3 if run.teacher is not None else 0.0
    per_image = per_image * (1 + _share_of_heads(recipe)) + teacher
    steps = 3 * per_image * images * share * recipe.optimizer.epochs
    return steps / (scale.gigamacs_per_second * 1e9) / 3600


def _macs(recipe: Recipe, number: int, classes: int) -> float:
    """Expected multiply-adds of an image's forward passes in a step."""
    config = recipe.models[number]
    kwargs = {key: value for key, value in config.kwargs.items() if key != "dropout"}
    costs = _costs(config.name, tuple(kwargs.items()), classes, recipe.space)
    rng = np.random.default_rng(0)
    draws = [recipe.method.value.draw(recipe.space, rng) for _ in range(_DRAWS)]
    return sum(costs.macs(subnet) for draw in draws for subnet in draw) / _DRAWS


@cache
def _costs(
    name: str, kwargs: tuple[tuple[str, Any], ...], classes: int, space: ElasticSpace
) -> CostModel:
    model = create_model(name, num_classes=classes, **dict(kwargs))
    return CostModel(Supernet(model, space))


def _share_of_heads(recipe: Recipe) -> float:
    teaching = recipe.teaching
    if not teaching.uses_heads:
        return 0.0
    return _HEADS.get(teaching.head_variant, _HEAD[len(teaching.head_names)])
