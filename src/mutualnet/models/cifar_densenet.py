"""Densely connected networks for 32-pixel images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mutualnet.models.building_blocks import check_counts, check_dropout, draw_weights


class DenseLayer(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution, whose output joins the input's channels.

    Args:
        in_channels: Channels of the input.
        growth: Channels that are added.
        dropout: Probability, in [0, 1), of zeroing a new value.
    """

    def __init__(self, in_channels: int, growth: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, growth, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, in_channels + growth, H, W)."""
        return torch.cat([x, self.dropout(self.conv(self.relu(self.norm(x))))], 1)


class Transition(nn.Sequential):
    """BatchNorm, ReLU, a 1x1 convolution that keeps the channels, and 2x2 average pooling.

    Args:
        channels: Of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.AvgPool2d(2),
        )


class CifarDenseNet(nn.Module):
    """DenseNet-d with growth k, without bottlenecks or compression, in three stages.

    Each stage has (d - 4) / 3 layers of k new channels; a transition halves the resolution before
    stages 2 and 3. Auxiliary classifiers attach to `stem`, `stage1` and `stage2`.

    Args:
        depth: Layers by the usual count, 3n + 4.
        growth: k, channels that each layer adds.
        num_classes: Outputs of the classifier.
        in_channels: Channels of the image.
        dropout: Probability, in [0, 1), of zeroing a layer's new value.

    Raises:
        ValueError: If depth is not 3n + 4 for an n >= 1, or another argument is out of its range.

    Source: Huang et al. 2017, https://arxiv.org/abs/1608.06993, section 3.
    """

    def __init__(
        self,
        depth: int = 40,
        growth: int = 12,
        num_classes: int = 100,
        in_channels: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 7 or (depth - 4) % 3:
            raise ValueError(f"depth must be 3n + 4 (7, 10, ..., 40), got {depth}")
        check_dropout(dropout)
        check_counts(growth=growth, num_classes=num_classes, in_channels=in_channels)
        num_layers = (depth - 4) // 3
        widths = [16 + stage * num_layers * growth for stage in range(4)]
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.stage1 = dense_layers(widths[0], growth, num_layers, dropout=dropout)
        self.transition1 = Transition(widths[1])
        self.stage2 = dense_layers(widths[1], growth, num_layers, dropout=dropout)
        self.transition2 = Transition(widths[2])
        self.stage3 = dense_layers(widths[2], growth, num_layers, dropout=dropout)
        self.tail = nn.Sequential(
            nn.BatchNorm2d(widths[3]),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(widths[3], num_classes)
        draw_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, K)."""
        x = self.transition1(self.stage1(self.stem(x)))
        x = self.transition2(self.stage2(x))
        return self.head(self.tail(self.stage3(x)))


def densenet40_12(
    num_classes: int = 100, in_channels: int = 3, dropout: float = 0.0
) -> CifarDenseNet:
    """DenseNet-40-12: 40 layers, 12 new channels each."""
    return CifarDenseNet(40, 12, num_classes, in_channels, dropout)


def dense_layers(
    in_channels: int, growth: int, num_layers: int, *, dropout: float = 0.0
) -> nn.Sequential:
    """Layers that each add `growth` channels to those before."""
    return nn.Sequential(
        *(
            DenseLayer(in_channels + number * growth, growth, dropout=dropout)
            for number in range(num_layers)
        )
    )
