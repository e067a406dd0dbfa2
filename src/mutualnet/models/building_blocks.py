"""What the networks for 32-pixel images share."""

from __future__ import annotations

from typing import Protocol

from torch import nn


class BlockType(Protocol):
    """A block, or how to build one, by its channels and its stride."""

    def __call__(self, in_channels: int, out_channels: int, /, *, stride: int) -> nn.Module:
        """Build one."""


def repeat_block(
    block: BlockType, in_channels: int, out_channels: int, count: int, *, stride: int
) -> nn.Sequential:
    """Blocks of equal width, of which the first changes channels and resolution."""
    first = block(in_channels, out_channels, stride=stride)
    rest = (block(out_channels, out_channels, stride=1) for _ in range(count - 1))
    return nn.Sequential(first, *rest)


def shortcut_convolution(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d | None:
    """A 1x1 convolution beside a block that changes channels or resolution; None beside others."""
    if in_channels == out_channels and stride == 1:
        return None
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


def draw_weights(model: nn.Module) -> None:
    """Draw new weights from torch's random numbers.

    Convolutions get Kaiming-normal weights by fan-out, BatchNorms 1 and 0, and linear layers
    PyTorch's default weight with a bias of 0.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d | nn.Linear):
            module.reset_parameters()
            nn.init.zeros_(module.bias)


def check_counts(**counts: int) -> None:
    """Refuse counts below 1.

    Raises:
        ValueError: If there is one. It has its name.
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be >= 1, got {count}")


def check_dropout(dropout: float) -> None:
    """Refuse a probability that is none.

    Raises:
        ValueError: If it is not in [0, 1).
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
