"""The optimizer of a recipe: which parameters decay, and which learn at a lower rate."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from mutualnet.config import OptimizerConfig


def parameter_groups(
    model: nn.Module,
    config: OptimizerConfig,
    *,
    initialized: Collection[nn.Parameter] = (),
    init_lr_mult: float = 1.0,
) -> list[dict[str, Any]]:
    """Split a model's parameters by weight decay, and by where their values came from.

    Args:
        model: Its parameters that require a gradient are split.
        config: Weight decay and its exceptions.
        initialized: Parameters with values from elsewhere, which learn at a lower rate.
        init_lr_mult: Their share of the learning rate. With 0 they stay as they are.

    Source: the MutualNet and US-Net recipes: no decay for BN, biases and depthwise convolutions
        (weights of four dimensions with one input channel).
    """
    old = {id(parameter) for parameter in initialized}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        is_depthwise = parameter.dim() == 4 and parameter.shape[1] == 1
        is_spared = not config.decay_all and (parameter.dim() < 2 or is_depthwise)
        rate = init_lr_mult if id(parameter) in old else 1.0
        # A frozen layer must not decay either.
        decay = 0.0 if is_spared or rate == 0 else config.weight_decay
        groups.setdefault((decay, rate), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.lr,
            "momentum": config.momentum,
            "nesterov": config.nesterov,
            "weight_decay": decay,
            "lr_mult": rate,
        }
        for (decay, rate), parameters in groups.items()
    ]


def make_optimizer(groups: list[dict[str, Any]]) -> torch.optim.SGD:
    """SGD with momentum.

    Args:
        groups: From `parameter_groups`, of one network or of several.
    """
    return torch.optim.SGD(groups, lr=groups[0]["lr"])


def set_learning_rate(groups: list[dict[str, Any]], rate: float) -> None:
    """Set the learning rate of some of an optimizer's groups, each by its share."""
    for group in groups:
        group["lr"] = rate * group.get("lr_mult", 1.0)


def forget_momentum(optimizer: torch.optim.Optimizer, groups: list[dict[str, Any]]) -> None:
    """Let some of an optimizer's groups go on as if they had not moved before."""
    for group in groups:
        for parameter in group["params"]:
            optimizer.state.pop(parameter, None)
