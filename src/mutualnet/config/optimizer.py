"""How the weights of a network are updated: SGD, its learning rate, and their average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mutualnet.config.choices import check_choice
from mutualnet.numbers import check_numbers


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
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum > 0, got 0")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be >= 0, got {self.weight_decay}")
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
