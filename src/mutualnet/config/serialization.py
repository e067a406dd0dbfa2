"""Recipes as text: YAML in and out, and single values changed by their keys."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from mutualnet.config.plain_yaml import read_yaml
from mutualnet.config.recipe import (
    ComputeConfig,
    DataConfig,
    MethodConfig,
    ModelConfig,
    OptimizerConfig,
    PeerConfig,
    Recipe,
    TableConfig,
    TeacherConfig,
    TeachingConfig,
    WatchConfig,
)
from mutualnet.space import ElasticSpace

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


_NESTED: dict[str, type] = {
    "model": ModelConfig,
    "data": DataConfig,
    "space": ElasticSpace,
    "optimizer": OptimizerConfig,
    "method": MethodConfig,
    "teaching": TeachingConfig,
    "teacher": TeacherConfig,
    "compute": ComputeConfig,
    "table": TableConfig,
    "watch": WatchConfig,
}
_OLD_KEYS = {"precision": "compute"}
"""Names that parts had before; recipes and runs written then are read still."""
_PARTS: dict[type, set[str]] = {
    Recipe: {*_NESTED, "peers"},
    PeerConfig: {"model", "optimizer"},
    ModelConfig: {"kwargs"},
}
"""Fields that are made of fields."""


def _build(values: dict[str, Any]) -> Recipe:
    values = {_OLD_KEYS.get(key, key): value for key, value in values.items()}
    parts: dict[str, Any] = {}
    for key, kind in _NESTED.items():
        if key in values:
            parts[key] = _part(kind, values[key], f"{key}.")
    if "peers" in values:
        parts["peers"] = _peers(values["peers"])
    return _part(Recipe, values, "", parts)


def _peers(values: Any) -> tuple[PeerConfig, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(
            f"peers must be a list, such as [{{model: {{name: wrn16_1}}}}], got {values!r}"
        )
    peers = []
    for number, value in enumerate(values):
        prefix = f"peers.{number}."
        _check_dict(value, PeerConfig, prefix)
        parts: dict[str, Any] = {}
        if "model" in value:
            parts["model"] = _part(ModelConfig, value["model"], f"{prefix}model.")
        own = value.get("optimizer")
        if own is not None:
            own = _part(OptimizerConfig, own, f"{prefix}optimizer.")
        parts["optimizer"] = own
        peers.append(_part(PeerConfig, value, prefix, parts))
    return tuple(peers)


def _part(kind: type[_T], values: Any, prefix: str, parts: Mapping[str, Any] | None = None) -> _T:
    """One dataclass from plain values, given those of its parts that are dataclasses."""
    _check_dict(values, kind, prefix)
    _check_keys(values, kind, prefix)
    parts = dict(parts or {})
    if kind is ModelConfig and "kwargs" in values:
        parts["kwargs"] = _kwargs(values["kwargs"], f"{prefix}kwargs")
    own = {key: value for key, value in values.items() if key not in parts}
    missing = [
        f"{prefix}{f.name}"
        for f in fields(kind)  # type: ignore[arg-type]
        if f.default is f.default_factory is MISSING and f.name not in values
    ]
    if missing:
        raise ValueError(f"a recipe must have {', '.join(missing)}, got none")
    types = get_type_hints(kind)
    for key, value in own.items():  # the parser takes null for anything that has a default
        if value is None and type(None) not in get_args(types[key]):
            raise ValueError(f"{prefix}{key} must be {_describe(types[key])}, got null")
    try:
        found = _parser(kind).parse_object(own).as_dict()  # type: ignore[arg-type]
    except (ArgumentError, TypeError, ValueError) as error:
        raise _wrong_value(kind, own, prefix, error) from None
    try:
        return kind(**found, **parts)
    except ValueError as error:
        # Most messages begin with a field's own name.
        is_bare = str(error).split(" ")[0] in own
        raise ValueError(f"{prefix}{error}" if is_bare else str(error)) from None


def _kwargs(values: Any, name: str) -> dict[str, Any]:
    """Arguments of any type, by hand: the parser would import what one names as class_path."""

    def read(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: read(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [read(part) for part in value]
        if isinstance(value, str) and _EXPONENT.fullmatch(value):
            return float(value)
        return value

    if not isinstance(values, dict):
        raise ValueError(f"{name} must be {_describe(dict[str, Any])}, got {values!r}")
    return dict(read(values))


_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""Numbers that YAML 1.1 takes for text, such as 1e-3."""


@cache
def _parser(kind: type, only: str | None = None) -> ArgumentParser:
    """Reads the fields of a dataclass that are none themselves, or only one of them."""
    parser = ArgumentParser(exit_on_error=False)
    skip = {f.name for f in fields(kind)} - {only} if only else _PARTS.get(kind, set())
    parser.add_class_arguments(kind, skip=skip)
    return parser


def _wrong_value(
    kind: type, values: dict[str, Any], prefix: str, error: BaseException
) -> ValueError:
    """What to say when a parser refused some of the values."""
    types = get_type_hints(kind)
    for key, value in values.items():
        try:
            _parser(kind, key).parse_object({key: value})
        except (ArgumentError, TypeError, ValueError):
            return ValueError(f"{prefix}{key} must be {_describe(types[key])}, got {value!r}")
    return ValueError(_one_line(error))


def _describe(wanted: Any) -> str:
    """A field's type in words."""
    if wanted in _WORDS:
        return _WORDS[wanted]
    parts = [part for part in get_args(wanted) if part is not Ellipsis]
    origin = get_origin(wanted)
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    if origin is tuple:
        return f"a list, each {_describe(parts[0])}"
    if origin is dict:
        return "names and values, such as {depth: 16}"
    return " or ".join(_describe(part) for part in parts)


_WORDS: dict[Any, str] = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    str: "text",
    type(None): "null",
}


def _check_dict(values: Any, kind: Any, prefix: str) -> None:
    if not isinstance(values, dict):
        name, first = prefix.removesuffix("."), fields(kind)[0].name
        raise ValueError(
            f"{name} must be keys and values, such as {{{first}: ...}}, got {values!r}"
        )


def _check_keys(values: dict[str, Any], kind: Any, prefix: str) -> None:
    """Refuse keys that a recipe does not have, with the nearest one that it has."""
    known = [f.name for f in fields(kind)]
    for key in values:
        if key not in known:
            raise _no_key(f"{prefix}{key}", str(key), known, prefix)


def _no_key(name: str, key: str, known: list[str], prefix: str) -> ValueError:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f"Did you mean {prefix}{close[0]}?" if close else f"Known: {', '.join(known)}."
    return ValueError(f"a recipe has no key {name}. {hint}")


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
        if (path or [last])[0] in _OLD_KEYS:
            old = (path or [last])[0]
            logger.warning("the key %s of a recipe is now called %s", old, _OLD_KEYS[old])
            *path, last = (_OLD_KEYS[old], *key.split(".")[1:])
        place: Any = values
        for depth, part in enumerate(path):
            if part == "optimizer" and depth == 2 and place.get(part) is None:
                # To change single values of, a peer gets a copy of the recipe's.
                place[part] = dict(values[part])
            place = _step_into(place, part, path[:depth])
        if not isinstance(place, dict):
            raise ValueError(f"{key} must name a value of one peer, such as {key}.model.name")
        try:
            place[last] = read_yaml(text)
        except ValueError as error:
            raise ValueError(
                f"the value of {key} must be YAML, got {text[:100]!r} ({error})"
            ) from None
    return _build(values)


def _step_into(place: Any, part: str, before: list[str]) -> Any:
    """What a dotted key goes through: values by name, peers by number from 0."""
    name = ".".join([*before, part])
    if isinstance(place, list | tuple):
        if part.isdigit() and int(part) < len(place):
            return place[int(part)]
        if not place:
            raise ValueError(
                f"{name} must be one of the recipe's {before[-1]}, got none of them. Add some: "
                "'peers=[{model: {name: wrn16_1}}]'"
            )
        raise ValueError(f"the number in {name} must be below {len(place)} and not negative")
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
        values = read_yaml(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must hold YAML ({error})") from None
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
