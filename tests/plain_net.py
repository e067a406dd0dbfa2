"""A small network without BN, for tests of gradients."""

from torch import nn

from mutualnet.heads import Head


def plain_net(num_classes: int, in_channels: int) -> nn.Module:
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, num_classes),
    )


def plain_heads() -> dict[str, Head]:
    """A linear classifier after the first convolution."""
    return {"inner": Head(after="1")}
