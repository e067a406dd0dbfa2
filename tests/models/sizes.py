"""Sizes of networks, counted without running them."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_params(model: nn.Module) -> int:
    """Values of all parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, resolution: int) -> float:
    """Multiply-adds of one square image, of a network on the meta device."""
    images = torch.empty(1, 3, resolution, resolution, device="meta")
    with FlopCounterMode(display=False) as counter:
        model.eval()(images)
    return counter.get_total_flops() / 2
