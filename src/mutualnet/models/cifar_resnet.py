"""Residual networks for 32-pixel images, in three stages: basic blocks, or bottlenecks."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from mutualnet.models.building_blocks import (
    check_counts,
    draw_weights,
    repeat_block,
    shortcut_convolution,
)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each with BatchNorm, added to a shortcut before the last ReLU.

    The shortcut is the input itself, or, where channels or resolution change, a 1x1 convolution
    with BatchNorm.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Of the first convolution and of the shortcut.
    """

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        shortcut = shortcut_convolution(in_channels, out_channels, stride)
        self.shortcut = (
            None if shortcut is None else nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))
        )
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        residual = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.relu2(residual + (x if self.shortcut is None else self.shortcut(x)))


class PreActivationBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each after BatchNorm and ReLU, added to a shortcut.

    The shortcut is the input itself, or, where channels or resolution change, a 1x1 convolution
    of the input after the first BatchNorm and ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Of the 3x3 convolution and of the shortcut.
        mid_channels: Channels between; by default a quarter of the output's.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        mid_channels: int | None = None,
    ) -> None:
        super().__init__()
        middle = mid_channels or out_channels // self.expansion
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, middle, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(middle)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(middle)
        self.relu3 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(middle, out_channels, 1, bias=False)
        self.shortcut = shortcut_convolution(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        activated = self.relu1(self.norm1(x))
        residual = self.relu2(self.norm2(self.conv1(activated)))
        residual = self.conv3(self.relu3(self.norm3(self.conv2(residual))))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class CifarResNet(nn.Module):
    """Residual network of three stages: ResNet-6n+2 of basic blocks, ResNet-9n+2 of bottlenecks.

    Stage s has n blocks of 16 * 2**(s - 1) channels, four times as many with bottlenecks; stages 2
    and 3 halve the resolution. A global average pool lets any resolution run. Auxiliary classifiers
    attach to `stem`, `stage1` and `stage2`.

    Args:
        depth: Layers by the usual count: 6n + 2, or 9n + 2 with bottlenecks.
        num_classes: Outputs of the classifier.
        in_channels: Channels of the image.
        bottleneck: Whether blocks are bottlenecks with pre-activation.

    Raises:
        ValueError: If depth is not of that form for an n >= 1, or another argument is below 1.

    Source: He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2 (basic blocks);
        He et al. 2016, https://arxiv.org/abs/1603.05027, appendix (bottlenecks).
    Differs: Shortcuts that change the channels are 1x1 convolutions, where the paper's basic blocks
        pad with zeros: padding would tie no channels, and cannot be made narrower.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 100,
        in_channels: int = 3,
        *,
        bottleneck: bool = False,
    ) -> None:
        super().__init__()
        layers = 9 if bottleneck else 6
        if depth < layers + 2 or (depth - 2) % layers:
            raise ValueError(
                f"depth must be {layers}n + 2 ({layers + 2}, {2 * layers + 2}, ...), got {depth}"
            )
        check_counts(num_classes=num_classes, in_channels=in_channels)
        block = PreActivationBottleneck if bottleneck else BasicBlock
        num_blocks = (depth - 2) // layers
        widths = [16 * 2**stage * block.expansion for stage in range(3)]
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 16, 3, padding=1, bias=False))
        if not bottleneck:
            self.stem.extend((nn.BatchNorm2d(16), nn.ReLU(inplace=True)))
        self.stage1 = repeat_block(block, 16, widths[0], num_blocks, stride=1)
        self.stage2 = repeat_block(block, widths[0], widths[1], num_blocks, stride=2)
        self.stage3 = repeat_block(block, widths[1], widths[2], num_blocks, stride=2)
        tail: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        if bottleneck:
            tail = [nn.BatchNorm2d(widths[2]), nn.ReLU(inplace=True), *tail]
        self.tail = nn.Sequential(*tail)
        self.head = nn.Linear(widths[2], num_classes)
        draw_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, K)."""
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.head(self.tail(x))


def resnet20_cifar(num_classes: int = 100, in_channels: int = 3) -> CifarResNet:
    """ResNet-20 for CIFAR."""
    return CifarResNet(20, num_classes, in_channels)


def resnet32_cifar(num_classes: int = 100, in_channels: int = 3) -> CifarResNet:
    """ResNet-32 for CIFAR."""
    return CifarResNet(32, num_classes, in_channels)


def resnet56_cifar(num_classes: int = 100, in_channels: int = 3) -> CifarResNet:
    """ResNet-56 for CIFAR."""
    return CifarResNet(56, num_classes, in_channels)


def resnet110_cifar(num_classes: int = 100, in_channels: int = 3) -> CifarResNet:
    """ResNet-110 for CIFAR."""
    return CifarResNet(110, num_classes, in_channels)


def resnet164_cifar(num_classes: int = 100, in_channels: int = 3) -> CifarResNet:
    """ResNet-164 for CIFAR, of bottlenecks with pre-activation."""
    return CifarResNet(164, num_classes, in_channels, bottleneck=True)
