"""What a run has other than its recipe, as people ask for it on the command line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mutualnet.config.recipe import Recipe
from mutualnet.config.serialization import override
from mutualnet.config.transforms import (
    with_epochs,
    with_lr,
    with_method,
    with_model,
    with_optimizer,
    with_teaching,
)
from mutualnet.methods import METHODS
from mutualnet.teaching import TEACHINGS

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RecipeChanges:
    """Values in place of a recipe's; None keeps its own."""

    data: str | None = None
    """Folder of the images."""
    epochs: int | None = None
    """Milestones keep their share of them; warm-up keeps its length, see `with_epochs`."""
    seed: int | None = None
    method: str | None = None
    """Which sub-networks a step trains; brings the space that it trains and its schedule."""
    teaching: str | None = None
    """Who learns from whom."""
    optimizer: str | None = None
    """Name of every network's optimizer."""
    lr: float | None = None
    """Highest learning rate of every network."""
    model: str | None = None
    """Name of every network."""
    width_range: tuple[float, float] | None = None
    resolutions: tuple[int, ...] | None = None
    """Sides of the square inputs, in pixels."""
    depths: tuple[float, ...] | None = None
    """Shares of the residual blocks that run."""
    frames: tuple[int, ...] | None = None
    """Of the input clips."""
    settings: Sequence[str] = ()
    """`key=value` pairs that change single values, after all others."""

    def apply(self, recipe: Recipe) -> Recipe:
        """The recipe with these values.

        Raises:
            ValueError: If a value does not fit the recipe.
        """
        before = recipe
        if self.data is not None:
            recipe = replace(recipe, data=replace(recipe.data, path=self.data))
        if self.epochs is not None:
            recipe = with_epochs(recipe, self.epochs)
        if self.seed is not None:
            recipe = replace(recipe, seed=self.seed)
        method, teaching = _told_apart(self.method, self.teaching, recipe)
        space = {
            "width_range": self.width_range,
            "resolutions": self.resolutions,
            "depths": self.depths,
            "frames": self.frames,
        }
        if method is not None or any(value is not None for value in space.values()):
            recipe = with_method(recipe, method, **space)  # type: ignore[arg-type]
        if teaching is not None:
            recipe = with_teaching(recipe, teaching)
        if self.optimizer is not None:
            recipe = with_optimizer(recipe, self.optimizer)
        if self.lr is not None:
            recipe = with_lr(recipe, self.lr)
        if self.model is not None:
            keys = [setting.partition("=")[0] for setting in self.settings]
            recipe = with_model(recipe, self.model, other_init=keys)
        if self.settings:
            recipe = override(recipe, self.settings)
        _warn_of_old_rate(before, recipe)
        return recipe


def _warn_of_old_rate(before: Recipe, now: Recipe) -> None:
    """Say that another optimizer moves weights by steps of another size."""
    for old, new in zip(before.optimizers, now.optimizers, strict=False):
        if new.name != old.name and new.lr == old.lr:
            logger.warning(
                "the learning rate %g was chosen for %s, not for %s: choose one by --lr, and "
                "optimizer.weight_decay (%g) with it",
                new.lr,
                old.name,
                new.name,
                new.weight_decay,
            )
            return


def _told_apart(
    method: str | None, teaching: str | None, recipe: Recipe
) -> tuple[str | None, str | None]:
    """The two switches, where `--method` was written for a way of teaching as it once could be."""
    if teaching is not None or method not in TEACHINGS:
        return method, teaching
    if method in METHODS and recipe.teaching.method == method:
        return method, None
    logger.warning(
        "--method %s: who learns from whom is now chosen by --teaching %s", method, method
    )
    return method if method in METHODS else None, method
