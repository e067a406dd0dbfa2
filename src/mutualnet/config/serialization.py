"""Recipes as text: YAML in and out, and single values changed by their keys."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from mutualnet.config.building import OLD_KEYS, build_recipe, no_such_key
from mutualnet.config.plain_yaml import read_yaml
from mutualnet.config.recipe import Recipe

logger = logging.getLogger(__name__)


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain nested values."""
    return asdict(recipe)


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Change single values of a recipe.

    Args:
        recipe: Kept as it is.
        settings: `key=value` pairs such as `optimizer.lr=0.1`; values are read as YAML. Of two for
            the same key the later counts; those of peers come after all others. A range of widths
            takes the place of a list.

    Raises:
        ValueError: If a setting has no `=`, names no key, or has a value of the wrong type.
    """
    values = recipe_values(recipe)
    keys = {setting.partition("=")[0] for setting in settings}
    if "space.width_range" in keys and "space.widths" not in keys:
        values["space"]["widths"] = None  # a list of before would win over the range
    # A peer's optimizer starts from the recipe's as they are in the end.
    for setting in sorted(settings, key=lambda setting: setting.startswith("peers")):
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise ValueError(
                f"--set must be key=value, for example optimizer.lr=0.1, got {setting!r}"
            )
        *path, last = key.split(".")
        if (path or [last])[0] in OLD_KEYS:
            old = (path or [last])[0]
            logger.warning("the key %s of a recipe is now called %s", old, OLD_KEYS[old])
            *path, last = (OLD_KEYS[old], *key.split(".")[1:])
        place: Any = values
        for depth, word in enumerate(path):
            if word == "optimizer" and depth == 2 and place.get(word) is None:
                # To change single values of, a peer gets a copy of the recipe's.
                place[word] = copy.deepcopy(values[word])
            place = _step_into(place, word, path[:depth])
        if path == ["peers"]:
            raise ValueError(f"{key} must name a value of one peer, such as {key}.model.name")
        if not isinstance(place, dict):
            raise _whole_list(path)
        try:
            place[last] = read_yaml(text)
        except ValueError as error:
            raise ValueError(
                f"the value of {key} must be YAML, got {text[:100]!r} ({error})"
            ) from None
    return build_recipe(values)


def _step_into(place: Any, word: str, before: list[str]) -> Any:
    """What a dotted key goes through: values by name, peers by index."""
    name = ".".join([*before, word])
    if isinstance(place, list | tuple):
        if before != ["peers"]:
            raise _whole_list(before)
        if word.isdecimal() and int(word) < len(place):
            return place[int(word)]
        if not place:
            raise ValueError(
                f"{name} must be one of the recipe's {before[-1]}, got none of them. Add some: "
                "'peers=[{model: {name: wrn16_1}}]'"
            )
        raise ValueError(f"the number in {name} must be below {len(place)} and not negative")
    if word not in place:
        raise no_such_key(name, word, list(place), ".".join([*before, ""]))
    if not isinstance(place[word], dict | tuple | list):
        raise ValueError(f"{name} has no keys of its own")
    return place[word]


def _whole_list(path: Sequence[str]) -> ValueError:
    """What to say where one item of a list is to change."""
    name = ".".join(path)
    return ValueError(f"{name} is a list, which is set as a whole: {name}=[...]")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from YAML.

    Raises:
        ValueError: If the file is not YAML, lacks a key, or has an unknown or ill-typed one.
    """
    try:
        values = read_yaml(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must hold YAML ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} must hold a recipe's keys and values, got {type(values).__name__}"
        )
    try:
        return build_recipe(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML that `read_recipe` reads back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        for kind in (bool, int, float, str):  # YAML knows no subclasses, which parsers make
            if isinstance(value, kind):
                return kind(value)
        return value

    path.write_text(yaml.safe_dump(plain(recipe_values(recipe)), sort_keys=False))
