"""The same recipe for other epochs, another method or another teaching."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from mutualnet.config import OptimizerConfig, Recipe
from mutualnet.methods import METHODS, Method

__all__ = ["with_epochs", "with_method", "with_teaching"]


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """A recipe for another number of epochs, with milestones at the same shares of them.

    Warm-up keeps its length, up to a quarter of a short run or its share of it before.

    Args:
        recipe: Kept as it is.
        epochs: Passes over the images, >= 1.
    """
    peers = tuple(
        peer
        if peer.optimizer is None
        else replace(peer, optimizer=_with_epochs(peer.optimizer, epochs))
        for peer in recipe.peers
    )
    return replace(recipe, optimizer=_with_epochs(recipe.optimizer, epochs), peers=peers)


def _with_epochs(config: OptimizerConfig, epochs: int) -> OptimizerConfig:
    share = epochs / config.epochs
    milestones = tuple(max(1, round(epoch * share)) for epoch in config.milestones)
    longest = max(0.25, config.warmup_epochs / config.epochs) * epochs
    warmup = min(config.warmup_epochs, longest)
    return replace(config, epochs=epochs, warmup_epochs=warmup, milestones=milestones)


def with_method(
    recipe: Recipe,
    name: str | None = None,
    *,
    width_range: tuple[float, float] | None = None,
    resolutions: tuple[int, ...] | None = None,
) -> Recipe:
    """A recipe for another method, with the space that this method trains and its schedule.

    The learning rate's schedule changes where it was the one of the method before.

    Args:
        recipe: Kept as it is.
        name: A key of `mutualnet.METHODS`; None for the recipe's own.
        width_range: In place of the recipe's.
        resolutions: In place of the recipe's.

    Raises:
        ValueError: If there is no such method.
    """
    name = name or recipe.method.name
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    method = replace(recipe.method, name=name)
    before, after = recipe.method.value, method.value
    peers = tuple(
        replace(peer, optimizer=_with_schedule(peer.optimizer, before, after))
        for peer in recipe.peers
    )
    return replace(
        recipe,
        method=method,
        space=after.space(recipe.space, width_range=width_range, resolutions=resolutions),
        optimizer=_with_schedule(recipe.optimizer, before, after),
        peers=peers,
    )


_Optimizer = TypeVar("_Optimizer", OptimizerConfig, OptimizerConfig | None)


def _with_schedule(config: _Optimizer, before: Method, after: Method) -> _Optimizer:
    if config is None or config.schedule != before.schedule:
        return config
    return replace(config, schedule=after.schedule)


def with_teaching(recipe: Recipe, name: str) -> Recipe:
    """A recipe whose networks learn from each other in another way.

    Args:
        recipe: Kept as it is.
        name: A method of `TeachingConfig`; with `independent` nobody teaches another network.

    Raises:
        ValueError: If there is no such way.
    """
    return replace(recipe, teaching=replace(recipe.teaching, method=name))
