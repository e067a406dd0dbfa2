"""A recipe: everything that decides a training run, as typed values that check themselves."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from mutualnet.space import RULES, ElasticSpace, SandwichRule

__all__ = [
    "DataConfig",
    "MethodConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PrecisionConfig",
    "Recipe",
    "TableConfig",
    "override",
    "read_recipe",
    "write_recipe",
]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network."""

    name: str
    """`timm:NAME`, `torchvision:NAME`, `package.module:function`, or one of ours."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """More arguments of its constructor."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how they are fed."""

    name: str
    """`digits`, `cifar10`, `cifar100` or `imagefolder`."""
    path: str | None = None
    """Folder of the data set; digits need none."""
    batch_size: int = 128
    select_share: float = 0.1
    """Share of the train images held out to choose the table's winners."""
    augment: str = "standard"
    """`standard`, `none`, or `wide_crop` for image folders."""
    num_workers: int = 0
    """Processes that load images; 0 loads in the training process."""

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be >= 2, which BN needs, got {self.batch_size}")
        if not 0 < self.select_share < 1:
            raise ValueError(f"select_share must lie in (0, 1), got {self.select_share}")
        if self.num_workers < 0:
            raise ValueError(f"num_workers must be >= 0, got {self.num_workers}")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """SGD with momentum; the rate follows half a cosine to zero, step by step, after a warm-up."""

    lr: float
    """Highest learning rate."""
    epochs: int
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    decay_all: bool = False
    """Whether weight decay acts on BN, biases and depthwise convolutions too."""
    warmup_epochs: float = 0.0
    """The rate rises linearly from zero over this many epochs."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr must be > 0, got {self.lr}")
        if self.epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {self.epochs}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum > 0, got 0")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be >= 0, got {self.weight_decay}")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(
                f"warmup_epochs must lie in [0, {self.epochs}], got {self.warmup_epochs}"
            )


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """What one training step runs, and what it learns from."""

    name: str = "mutualnet"
    """A key of `mutualnet.space.RULES`."""
    num_random: int | None = None
    """Sub-networks of random width in a step; None keeps the method's own number."""
    distill: bool = True
    """Whether narrower sub-networks learn from the largest one's output; if not, from labels."""

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise ValueError(f"method.name must be one of {', '.join(RULES)}, got {self.name!r}")
        if self.num_random is not None and self.num_random < 0:
            raise ValueError(f"num_random must be >= 0, got {self.num_random}")

    @property
    def rule(self) -> SandwichRule:
        """The draws of the method."""
        rule = RULES[self.name]
        if self.num_random is None:
            return rule
        return SandwichRule(
            num_random=self.num_random,
            include_smallest=rule.include_smallest,
            scales=rule.scales,
            fix_largest=rule.fix_largest,
        )


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig:
    """Number format and memory layout; `auto` lets a short probe choose."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """How the query table is made."""

    num_calibration_samples: int = 2048
    """Training images behind each sub-network's BN statistics."""
    latency_runs: int = 30
    """Timed passes per sub-network."""

    def __post_init__(self) -> None:
        if self.num_calibration_samples < 2:
            raise ValueError(
                f"num_calibration_samples must be >= 2, got {self.num_calibration_samples}"
            )
        if self.latency_runs < 0:
            raise ValueError(f"latency_runs must be >= 0, got {self.latency_runs}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training run."""

    name: str
    description: str
    """One line for the list of recipes."""
    model: ModelConfig
    data: DataConfig
    space: ElasticSpace
    optimizer: OptimizerConfig
    method: MethodConfig = field(default_factory=MethodConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    table: TableConfig = field(default_factory=TableConfig)
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0, got {self.seed}")


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
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"Did you mean {prefix}{close[0]}?" if close else f"Known: {', '.join(known)}."
            raise ValueError(f"a recipe has no key {prefix}{key}. {hint}")
        nested = _NESTED.get(known[key].name) if not prefix else None
        if nested is not None and isinstance(value, dict):
            _check_keys(value, nested, f"{key}.")


_NESTED: dict[str, Any] = {
    "model": ModelConfig,
    "data": DataConfig,
    "space": ElasticSpace,
    "optimizer": OptimizerConfig,
    "method": MethodConfig,
    "precision": PrecisionConfig,
    "table": TableConfig,
}


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain nested values."""
    assert is_dataclass(recipe)
    return asdict(recipe)


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Change single values of a recipe.

    Args:
        recipe: Kept as it is.
        settings: `key=value` pairs such as `optimizer.lr=0.1`; values are read as YAML.

    Raises:
        ValueError: If a setting has no `=`, names no key, or has a value of the wrong type.
    """
    values = recipe_values(recipe)
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise ValueError(
                f"--set must be key=value, for example optimizer.lr=0.1, got {setting!r}"
            )
        *path, last = key.split(".")
        place: Any = values
        for part in path:
            if not isinstance(place, dict) or not isinstance(place.get(part), dict):
                _check_keys({part: None}, Recipe, "")
                raise ValueError(f"{part!r} of {key!r} has no keys of its own")
            place = place[part]
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"the value of {key} must be YAML, got {text!r}") from None
    return _build(values)


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
