"""From plain values to a recipe; errors name the key, what it takes, and what was got."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from mutualnet.config.clips import ClipConfig
from mutualnet.config.data import DataConfig
from mutualnet.config.measurement import TableConfig, WatchConfig
from mutualnet.config.method import MethodConfig
from mutualnet.config.model import ModelConfig
from mutualnet.config.optimizer import OptimizerConfig
from mutualnet.config.recipe import ComputeConfig, Recipe
from mutualnet.config.teaching import PeerConfig, TeacherConfig, TeachingConfig
from mutualnet.space import ElasticSpace

_T = TypeVar("_T")


_NESTED: dict[str, type] = {
    "model": ModelConfig,
    "data": DataConfig,
    "clips": ClipConfig,
    "space": ElasticSpace,
    "optimizer": OptimizerConfig,
    "method": MethodConfig,
    "teaching": TeachingConfig,
    "teacher": TeacherConfig,
    "compute": ComputeConfig,
    "table": TableConfig,
    "watch": WatchConfig,
}
OLD_KEYS = {"precision": "compute"}
"""Keys that had another name before; recipes and runs written then are read still."""
_BUILT_FIELDS: dict[type, set[str]] = {
    Recipe: {*_NESTED, "peers"},
    PeerConfig: {"model", "optimizer"},
    ModelConfig: {"kwargs"},
    OptimizerConfig: {"kwargs"},
}
"""Fields that are not read by the parser of their dataclass."""


def build_recipe(values: dict[str, Any]) -> Recipe:
    """A recipe from plain nested values, old keys included.

    Raises:
        ValueError: If a key is missing or unknown, or a value of the wrong type or out of range.
    """
    values = {OLD_KEYS.get(key, key): value for key, value in values.items()}
    built: dict[str, Any] = {}
    for key, kind in _NESTED.items():
        if key in values:
            built[key] = _dataclass(kind, values[key], f"{key}.")
    if "peers" in values:
        built["peers"] = _peers(values["peers"])
    return _dataclass(Recipe, values, "", built)


def _peers(values: Any) -> tuple[PeerConfig, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(
            f"peers must be a list, such as [{{model: {{name: wrn16_1}}}}], got {values!r}"
        )
    peers = []
    for index, value in enumerate(values):
        prefix = f"peers.{index}."
        _check_dict(value, PeerConfig, prefix)
        built: dict[str, Any] = {}
        if "model" in value:
            built["model"] = _dataclass(ModelConfig, value["model"], f"{prefix}model.")
        if value.get("optimizer") is not None:
            built["optimizer"] = _dataclass(
                OptimizerConfig, value["optimizer"], f"{prefix}optimizer."
            )
        else:
            built["optimizer"] = None
        peers.append(_dataclass(PeerConfig, value, prefix, built))
    return tuple(peers)


def _dataclass(
    kind: type[_T], values: Any, prefix: str, built: Mapping[str, Any] | None = None
) -> _T:
    """One dataclass from plain values, given those of its fields that are built already."""
    _check_dict(values, kind, prefix)
    _check_keys(values, kind, prefix)
    built = dict(built or {})
    if kind in (ModelConfig, OptimizerConfig) and "kwargs" in values:
        built["kwargs"] = _kwargs(values["kwargs"], f"{prefix}kwargs")
    parsed = {key: value for key, value in values.items() if key not in built}
    missing = [
        f"{prefix}{f.name}"
        for f in fields(kind)  # type: ignore[arg-type]
        if f.default is f.default_factory is MISSING and f.name not in values
    ]
    if missing:
        raise ValueError(f"a recipe must have {', '.join(missing)}, got none")
    types = get_type_hints(kind)
    for key, value in parsed.items():  # the parser takes null for anything that has a default
        if value is None and type(None) not in get_args(types[key]):
            raise ValueError(f"{prefix}{key} must be {_describe(types[key])}, got null")
    try:
        found = _parser(kind).parse_object(parsed).as_dict()  # type: ignore[arg-type]
    except (ArgumentError, TypeError, ValueError) as error:
        raise _wrong_value(kind, parsed, prefix, error) from None
    for key, value in parsed.items():  # the parser takes the texts null and ~ for no value
        if isinstance(value, str) and str in get_args(types[key]):
            found[key] = value
    try:
        return kind(**found, **built)
    except ValueError as error:
        # Most messages begin with a field's name.
        is_bare = str(error).split(" ")[0] in parsed
        raise ValueError(f"{prefix}{error}" if is_bare else str(error)) from None


def _kwargs(values: Any, name: str) -> dict[str, Any]:
    """Arguments of any type, by hand: the parser would import what one names as class_path."""

    def read(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: read(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [read(inner) for inner in value]
        if isinstance(value, str) and _EXPONENT.fullmatch(value):
            return float(value)
        return value

    if not isinstance(values, dict):
        example = "{eps: 1e-8}" if "optimizer" in name else "{depth: 16}"
        raise ValueError(f"{name} must be names and values, such as {example}, got {values!r}")
    return dict(read(values))


_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""Numbers that YAML 1.1 takes for text, such as 1e-3."""


@cache
def _parser(kind: type, only: str | None = None) -> ArgumentParser:
    """Reads the fields of a dataclass but for those that are built, or only one of them."""
    parser = ArgumentParser(exit_on_error=False)
    skip = {f.name for f in fields(kind)} - {only} if only else _BUILT_FIELDS.get(kind, set())
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
    inner = [kind for kind in get_args(wanted) if kind is not Ellipsis]
    origin = get_origin(wanted)
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin is tuple:
        return f"a list, each {_describe(inner[0])}"
    return " or ".join(_describe(kind) for kind in inner)


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
            raise no_such_key(f"{prefix}{key}", str(key), known, prefix)


def no_such_key(name: str, key: str, known: list[str], prefix: str) -> ValueError:
    """The error for a key that a recipe does not have, with the nearest one that it has.

    Args:
        name: The key with all before it, such as `optimizer.lrate`.
        key: Its last word.
        known: Those that there are in its place.
        prefix: What stands before it, such as `optimizer.`.
    """
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f"Did you mean {prefix}{close[0]}?" if close else f"Known: {', '.join(known)}."
    return ValueError(f"a recipe has no key {name}. {hint}")


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)
