"""A small network without BN, for tests of gradients."""

from __future__ import annotations

from torch import nn

from mutualnet.heads.auxiliary import Head


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


def seven_classes(num_classes: int, in_channels: int) -> nn.Module:
    """A network that has its own idea of the classes."""
    return plain_net(7, in_channels)


_ONE: list[nn.Module] = []


def always_the_same(num_classes: int, in_channels: int) -> nn.Module:
    """One network, whoever asks."""
    if not _ONE:
        _ONE.append(plain_net(num_classes, in_channels))
    return _ONE[0]


def odd_heads() -> dict[str, Head]:
    """A head by the name of a method."""
    return {"half": Head(after="stage1")}


def lost_heads() -> dict[str, Head]:
    """Heads where no layer is."""
    return {"C2": Head(after="stage9"), "C3": Head(after="stage1")}


class OnlyEvaluates(nn.Module):
    """A network that fails in train mode."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 3)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        if self.training:
            raise KeyError("targets")
        return self.head(self.conv(x).mean((2, 3)))


def only_evaluates(num_classes: int, in_channels: int) -> nn.Module:
    return OnlyEvaluates(num_classes, in_channels)
