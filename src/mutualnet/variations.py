"""The same recipe for other epochs or another method."""

from __future__ import annotations

from dataclasses import replace

from mutualnet.config import TEACHINGS, OptimizerConfig, Recipe
from mutualnet.space import RULES

__all__ = ["with_epochs", "with_method"]


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
    """A recipe for another method, with the space that this method trains.

    `independent` and `multi_scale` train one width, the largest; `independent` and `s_net` one
    resolution, the top one; `s_net` four widths, evenly spaced. `deep_supervision`, `kd`, `dml`,
    `dks` and `dcm` change who teaches whom and leave the rest; with `independent` nobody teaches
    another network.

    Args:
        recipe: Kept as it is.
        name: A key of `mutualnet.space.RULES`, or a method of `TeachingConfig`; None for the
            recipe's own.
        width_range: In place of the recipe's.
        resolutions: In place of the recipe's.

    Raises:
        ValueError: If there is no such method.
    """
    if name in TEACHINGS:
        recipe = replace(recipe, teaching=replace(recipe.teaching, method=name))
        if name != "independent":
            name = None
            if width_range is None and resolutions is None:
                return recipe
    elif name is not None and name not in RULES:
        known = dict.fromkeys((*RULES, *TEACHINGS))
        raise ValueError(f"method must be one of {', '.join(known)}, got {name!r}")
    name = name or recipe.method.name
    method = replace(recipe.method, name=name)
    space = recipe.space
    low, high = width_range or space.width_range
    sides = resolutions or space.resolutions
    widths = None
    if name in ("independent", "multi_scale"):
        low = high
    if name in ("independent", "s_net"):
        sides = sides[:1]
    if method.owns_norms:
        widths = tuple(low + (high - low) * number / 3 for number in range(4))
    space = replace(
        space,
        width_range=(low, high),
        widths=widths,
        resolutions=sides,
        model_width_mult=max(space.full_width_mult, high),
    )
    return replace(recipe, method=method, space=space)
