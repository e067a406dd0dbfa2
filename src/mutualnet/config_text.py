"""Recipes as text: YAML in and out, and single values changed by their keys."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from mutualnet.config import (
    DataConfig,
    MethodConfig,
    ModelConfig,
    OptimizerConfig,
    PeerConfig,
    PrecisionConfig,
    Recipe,
    TableConfig,
    TeacherConfig,
    TeachingConfig,
)
from mutualnet.space import ElasticSpace

__all__ = ["override", "read_recipe", "recipe_values", "write_recipe"]


def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe)
    return parser


def _build(values: dict[str, Any]) -> Recipe:
    _check_keys(values, Recipe, "")
    parser = _parser()
    try:
        parsed = parser.parse_object(values)
        return Recipe(**vars(parser.instantiate(parsed)))
    except (ArgumentError, TypeError) as error:
        raise ValueError(_one_line(error)) from None


def _check_keys(values: dict[str, Any], kind: Any, prefix: str) -> None:
    """Refuse keys that a recipe does not have, with the nearest one that it has."""
    known = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise _no_key(f"{prefix}{key}", key, list(known), prefix)
        nested = _NESTED.get(key)
        if nested is not None and isinstance(value, dict):
            _check_keys(value, nested, f"{prefix}{key}.")
        if key == "peers" and isinstance(value, list | tuple):
            for number, peer in enumerate(value):
                if isinstance(peer, dict):
                    _check_keys(peer, PeerConfig, f"{key}.{number}.")


def _no_key(name: str, key: str, known: list[str], prefix: str) -> ValueError:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f"Did you mean {prefix}{close[0]}?" if close else f"Known: {', '.join(known)}."
    return ValueError(f"a recipe has no key {name}. {hint}")


_NESTED: dict[str, Any] = {
    "model": ModelConfig,
    "data": DataConfig,
    "space": ElasticSpace,
    "optimizer": OptimizerConfig,
    "method": MethodConfig,
    "teaching": TeachingConfig,
    "teacher": TeacherConfig,
    "precision": PrecisionConfig,
    "table": TableConfig,
}


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain nested values."""
    return asdict(recipe)


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Change single values of a recipe.

    Args:
        recipe: Kept as it is.
        settings: `key=value` pairs such as `optimizer.lr=0.1`; values are read as YAML. Of two for
            the same key the later counts; those of peers come after all others.

    Raises:
        ValueError: If a setting has no `=`, names no key, or has a value of the wrong type.
    """
    values = recipe_values(recipe)
    # A peer's own values start from the recipe's as they are in the end.
    for setting in sorted(settings, key=lambda setting: setting.startswith("peers")):
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise ValueError(
                f"--set must be key=value, for example optimizer.lr=0.1, got {setting!r}"
            )
        *path, last = key.split(".")
        place: Any = values
        for depth, part in enumerate(path):
            if part == "optimizer" and depth == 2 and place.get(part) is None:
                # To change single values of, a peer gets a copy of the recipe's.
                place[part] = dict(values[part])
            place = _step_into(place, part, path[:depth])
        if not isinstance(place, dict):
            raise ValueError(f"{key} must name a value of one peer, such as {key}.model.name")
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"the value of {key} must be YAML, got {text!r}") from None
    return _build(values)


def _step_into(place: Any, part: str, before: list[str]) -> Any:
    """What a dotted key goes through: values by name, peers by number from 0."""
    name = ".".join([*before, part])
    if isinstance(place, list | tuple):
        if part.isdigit() and int(part) < len(place):
            return place[int(part)]
        raise ValueError(f"the number in {name} must be below {len(place)}")
    if part not in place:
        raise _no_key(name, part, list(place), ".".join([*before, ""]))
    if not isinstance(place[part], dict | tuple | list):
        raise ValueError(f"{name} has no keys of its own")
    return place[part]


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from YAML.

    Raises:
        ValueError: If the file is not YAML, lacks a key, or has an unknown or ill-typed one.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must hold YAML ({_one_line(error)})") from None
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} must hold a recipe's keys and values, got {type(values).__name__}"
        )
    try:
        return _build(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML that `read_recipe` reads back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        for kind in (bool, int, float, str):  # YAML knows no subclasses, which parsers make
            if isinstance(value, kind):
                return kind(value)
        return value

    path.write_text(yaml.safe_dump(plain(recipe_values(recipe)), sort_keys=False))
