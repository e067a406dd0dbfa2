"""A recipe: everything that decides a training run, as typed values that check themselves."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
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
    "TeacherConfig",
    "override",
    "read_recipe",
    "with_epochs",
    "with_method",
    "write_recipe",
]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network."""

    name: str
    """`timm:NAME`, `torchvision:NAME`, `package.module:function`, or one of ours."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """More arguments of its constructor."""
    init: str | None = None
    """Where weights come from: `timm:NAME` (pretrained), a run, or a file of them; None draws."""
    init_lr_mult: float = 1.0
    """Share of the learning rate for layers whose weights came from `init`; new ones get all."""
    sync_bn: bool = False
    """Whether BN takes its batch statistics over all processes; on accelerators only."""

    def __post_init__(self) -> None:
        if not 0 <= self.init_lr_mult <= 1:
            raise ValueError(f"init_lr_mult must lie in [0, 1], got {self.init_lr_mult}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how they are fed."""

    name: str
    """A name that `mutualnet.data.load_data` knows, such as `cifar10` or `imagefolder`."""
    path: str | None = None
    """Folder of the data set; digits need none."""
    batch_size: int = 128
    """Images of a step, over all processes."""
    select_share: float = 0.1
    """Share of the train images held out to choose the table's winners."""
    train_share: float = 1.0
    """Share of every class of the other train images to use, for comparisons in little time."""
    augment: str = "standard"
    """`standard`, `none`, or `wide_crop` for photos."""
    policy: Literal["none", "autoaugment", "fast_autoaugment"] = "none"
    """A learned augmentation policy on top."""
    cutout: int = 0
    """Side of the square that Cutout blanks, in pixels; 0 for none."""
    mixup_alpha: float = 0.0
    """Mixup: images and labels are mixed by a share drawn from Beta(alpha, alpha); 0 for none."""
    cutmix_alpha: float = 0.0
    """CutMix: a box of another image is pasted in; with mixup each step does one of the two."""
    balance: Literal["none", "loss", "sampling"] = "none"
    """What makes rare classes count as much as others: weights of the loss, or of the draws."""
    num_workers: int = 0
    """Processes that load images; 0 loads in the training process."""

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be >= 2, which BN needs, got {self.batch_size}")
        if not 0 < self.select_share < 1:
            raise ValueError(f"select_share must lie in (0, 1), got {self.select_share}")
        if self.num_workers < 0:
            raise ValueError(f"num_workers must be >= 0, got {self.num_workers}")
        if not 0 < self.train_share <= 1:
            raise ValueError(f"train_share must lie in (0, 1], got {self.train_share}")
        for name in ("cutout", "mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        _check_choice("policy", self.policy, ("none", "autoaugment", "fast_autoaugment"))
        _check_choice("balance", self.balance, ("none", "loss", "sampling"))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """SGD with momentum, and its learning rate after a warm-up."""

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
    schedule: Literal["cosine", "linear", "step", "exponential"] = "cosine"
    """How the rate falls then; cosine and linear end at zero."""
    milestones: tuple[int, ...] = ()
    """Epochs after which the `step` schedule lowers the rate."""
    gamma: float = 0.1
    """What `step` multiplies the rate by at each milestone, `exponential` after every epoch."""
    accumulate: int = 1
    """Pieces that a batch is computed in, one after the other, to save memory; BN sees pieces."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient; None leaves it alone."""
    ema_decay: float | None = None
    """Keep a moving average of the weights, and end with it: its share of the old at each step."""

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
        _check_choice("schedule", self.schedule, ("cosine", "linear", "step", "exponential"))
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule=step needs milestones, for example [60, 120, 160]")
        if any(epoch < 1 for epoch in self.milestones):
            raise ValueError(f"milestones must be epochs >= 1, got {self.milestones}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must lie in (0, 1], got {self.gamma}")
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be >= 1, got {self.accumulate}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be > 0 or null, got {self.clip_norm}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in (0, 1) or be null, got {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """What one training step runs, and what it learns from."""

    name: str = "mutualnet"
    """A key of `mutualnet.space.RULES`."""
    num_random: int | None = None
    """Sub-networks of random width in a step; None keeps the method's own number."""
    distill: bool | None = None
    """Whether narrower sub-networks learn from the largest one's output; if not, from labels.
    None is the method's own choice: yes for all but `s_net`."""

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
        return replace(rule, num_random=self.num_random)

    @property
    def distills(self) -> bool:
        """Whether narrower sub-networks learn from the largest one's output."""
        return self.name != "s_net" if self.distill is None else self.distill

    @property
    def owns_norms(self) -> bool:
        """Whether every width has BN weights of its own."""
        return self.rule.every_width


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A trained network that the largest sub-network learns from beside the labels."""

    name: str | None = None
    """A run, or `timm:NAME` (pretrained); None for no teacher."""
    alpha: float = 0.5
    """Share of the teacher's part in the loss, in [0, 1]."""
    tau: float = 1.0
    """Temperature of both distributions, > 0."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha}")
        if not self.tau > 0:
            raise ValueError(f"tau must be > 0, got {self.tau}")


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
    batch_size: int | None = None
    """Images of a batch, None for that of training."""

    def __post_init__(self) -> None:
        if self.num_calibration_samples < 2:
            raise ValueError(
                f"num_calibration_samples must be >= 2, got {self.num_calibration_samples}"
            )
        if self.batch_size is not None and self.batch_size < 2:
            raise ValueError(f"table.batch_size must be >= 2 or null, got {self.batch_size}")
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
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    table: TableConfig = field(default_factory=TableConfig)
    task: str = "classification"
    """`classification`, `multilabel`, or `package.module:function` that makes one of yours."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    seed: int = 0
    checkpoint_minutes: float = 5.0
    """Time between two states to go on from after an interruption; 0 writes one at every step."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0, got {self.seed}")
        if self.checkpoint_minutes < 0:
            raise ValueError(f"checkpoint_minutes must be >= 0, got {self.checkpoint_minutes}")
        if self.method.owns_norms and self.space.widths is None:
            raise ValueError(
                "method s_net trains a fixed list of widths, but space.widths is null. Set it, for "
                "example [0.25, 0.5, 0.75, 1.0]."
            )
        soft = [n for n in ("mixup_alpha", "cutmix_alpha") if getattr(self.data, n)]
        if soft and self.task != "classification":
            raise ValueError(f"{soft[0]} mixes class labels; task {self.task!r} has none")


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


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
    "teacher": TeacherConfig,
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


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """A recipe for another number of epochs, with milestones at the same shares of them.

    Warm-up keeps its length, up to a quarter of a short run or its share of it before.

    Args:
        recipe: Kept as it is.
        epochs: Passes over the images, >= 1.
    """
    config = recipe.optimizer
    share = epochs / config.epochs
    milestones = tuple(max(1, round(epoch * share)) for epoch in config.milestones)
    longest = max(0.25, config.warmup_epochs / config.epochs) * epochs
    warmup = min(config.warmup_epochs, longest)
    optimizer = replace(config, epochs=epochs, warmup_epochs=warmup, milestones=milestones)
    return replace(recipe, optimizer=optimizer)


def with_method(
    recipe: Recipe,
    name: str,
    *,
    width_range: tuple[float, float] | None = None,
    resolutions: tuple[int, ...] | None = None,
) -> Recipe:
    """A recipe for another method, with the space that this method trains.

    `independent` and `multi_scale` train one width, the largest; `independent` and `s_net` one
    resolution, the top one; `s_net` four widths, evenly spaced.

    Args:
        recipe: Kept as it is.
        name: A key of `mutualnet.space.RULES`.
        width_range: In place of the recipe's.
        resolutions: In place of the recipe's.

    Raises:
        ValueError: If there is no such method.
    """
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
