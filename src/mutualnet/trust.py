"""Whose functions a recipe names: ours, timm's and torchvision's, or somebody else's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from mutualnet import models
from mutualnet.config import Recipe
from mutualnet.heads import HEAD_PRESETS
from mutualnet.models.registry import names_function

logger = logging.getLogger(__name__)

_NETWORKS = {
    f"{home}:{name}"
    for name in models.__all__
    if name != "create_model"  # which would call any function that its arguments name
    for home in ("mutualnet.models", getattr(models, name).__module__)
}
"""Names of our own networks that look like those of users' functions."""


def check_trusted(recipe: Recipe, source: Path, *, trust: bool) -> None:
    """Refuse a recipe from elsewhere that would have code of others run.

    Args:
        recipe: What was read.
        source: Where from.
        trust: Refuse nothing, but log what is trusted.

    Raises:
        ValueError: If it names such code, and `trust` is false.
    """
    for claim in _claims(recipe):
        if not trust:
            raise ValueError(
                f"{source} {claim}. If you know it, and trust whoever made this run, pass --trust "
                "(trust=True in Python)."
            )
        logger.warning("trusted: %s %s", source, claim)


def needs_trust(recipe: Recipe) -> bool:
    """Whether opening a run of this recipe is refused without `trust`."""
    return any(_claims(recipe))


def _claims(recipe: Recipe) -> Iterator[str]:
    """What a recipe says that may run code of others."""
    for number, model in enumerate(recipe.models):
        key = f"peers.{number - 1}.model" if number else "model"
        if names_function(model.name) and model.name not in _NETWORKS:
            yield _function(f"{key}.name", model.name)
        for name in model.kwargs:
            if name.startswith("pretrained") or name in ("checkpoint_path", "cache_dir"):
                yield f"has {model.name} read other files, by {key}.kwargs.{name}"
        if model.heads and names_function(model.heads) and model.heads not in HEAD_PRESETS:
            yield _function(f"{key}.heads", model.heads)
    if names_function(recipe.task):
        yield _function("task", recipe.task)


def _function(key: str, spec: str) -> str:
    return f"names {spec} as {key}, which is not mutualnet's, timm's or torchvision's to call"
