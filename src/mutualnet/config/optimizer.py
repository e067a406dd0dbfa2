"""How the weights of a network are updated: optimizer, learning rate, and their average."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mutualnet.config.choices import check_choice
from mutualnet.numbers import check_numbers


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """What updates the weights, and its learning rate after a warm-up."""

    lr: float
    """Highest learning rate."""
    epochs: int
    name: str = "sgd"
    """An optimizer of timm's factory: `sgd`, `adamw`, `lamb`, `rmsprop` and others."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """More arguments of its constructor, such as `{betas: [0.9, 0.95]}`."""
    momentum: float = 0.9
    """Of optimizers that have one; those with `betas` have them in `kwargs`."""
    nesterov: bool = True
    """Of `sgd`; other names say it themselves, or have it in `kwargs`."""
    weight_decay: float = 1e-4
    decay_all: bool = False
    """Whether weight decay acts on BN, biases and depthwise convolutions over images too, and on
    what networks of timm's want none for. On those over frames it always does, as X3D has it."""
    layer_decay: float | None = None
    """Factor of the learning rate from each layer to the one before it, the last one has all of
    it; None for one rate. For networks that tell timm their layers."""
    warmup_epochs: float = 0.0
    """The learning rate rises linearly from zero over this many epochs."""
    schedule: Literal["cosine", "linear", "step", "exponential"] = "cosine"
    """How the learning rate falls then; cosine and linear end at zero."""
    milestones: tuple[int, ...] = ()
    """Epochs after which the `step` schedule lowers the learning rate."""
    gamma: float = 0.1
    """Factor of the learning rate: at each milestone for `step`, after every epoch for
    `exponential`."""
    accumulate: int = 1
    """Gradient accumulation: micro-batches of a batch, to save memory; BN sees micro-batches."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient; None leaves it alone."""
    reset_momentum: bool = False
    """Whether the `step` schedule forgets the momentum at each milestone."""
    ema_decay: float | None = None
    """Keep a moving average of the weights, and end with it: its share of the old at each step."""

    def __post_init__(self) -> None:
        check_numbers(self)
        if not self.lr > 0:
            raise ValueError(f"lr must be > 0, got {self.lr}")
        if self.epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {self.epochs}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.name == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum > 0, got 0")
        self._check_kwargs()
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be >= 0, got {self.weight_decay}")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must lie in (0, 1] or be null, got {self.layer_decay}")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(
                f"warmup_epochs must lie in [0, {self.epochs}], got {self.warmup_epochs}"
            )
        check_choice("schedule", self.schedule, ("cosine", "linear", "step", "exponential"))
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

    def _check_kwargs(self) -> None:
        elsewhere = ["lr", "weight_decay", "momentum"]
        if self.name == "sgd":
            elsewhere.append("nesterov")
        for key in self.kwargs:
            if not isinstance(key, str):
                raise ValueError(f"optimizer.kwargs must have names, got {key!r}")
            if key in elsewhere:
                raise ValueError(
                    f"optimizer.kwargs must leave {key} out, which is set by optimizer.{key}"
                )
