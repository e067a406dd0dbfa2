"""Networks for 32-pixel images, which timm and torchvision lack."""

from __future__ import annotations

from functools import partial

from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

from mutualnet.models.building_blocks import (
    check_counts,
    check_dropout,
    draw_weights,
    repeat_block,
    shortcut_convolution,
)


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after BatchNorm and ReLU, added to a shortcut.

    The shortcut is the input itself, or, where channels or resolution change, a 1x1 convolution
    of the input after the first BatchNorm and ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Of the first convolution and of the shortcut.
        dropout: Probability, in [0, 1), of zeroing a value between the two convolutions.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = shortcut_convolution(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        activated = self.relu1(self.norm1(x))
        residual = self.relu2(self.norm2(self.conv1(activated)))
        residual = self.conv2(self.dropout(residual))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """Wide residual network WRN-d-k with pre-activation, in three stages.

    Stage s has (d - 4) / 6 blocks of 16k * 2**(s - 1) channels; stages 2 and 3 halve the
    resolution. A global average pool lets any resolution run. Auxiliary classifiers attach to
    `stage1` and `stage2`.

    Args:
        depth: Layers by the usual count, 6n + 4.
        width_factor: k, how many times wider than the original residual network, >= 1.
        num_classes: Outputs of the classifier.
        dropout: Probability, in [0, 1), of zeroing a value between a block's convolutions.
        in_channels: Channels of the image.

    Raises:
        ValueError: If depth is not 6n + 4 for an n >= 1, or another argument is out of its range.

    Source: Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146, section 2.
    """

    def __init__(
        self,
        depth: int,
        width_factor: int,
        num_classes: int = 100,
        dropout: float = 0.0,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth must be 6n + 4 (10, 16, 22, 28, ...), got {depth}")
        check_dropout(dropout)
        check_counts(width_factor=width_factor, num_classes=num_classes, in_channels=in_channels)
        num_blocks = (depth - 4) // 6
        widths = [16 * width_factor * 2**stage for stage in range(3)]
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        block = partial(PreActivationBlock, dropout=dropout)
        self.stage1 = repeat_block(block, 16, widths[0], num_blocks, stride=1)
        self.stage2 = repeat_block(block, widths[0], widths[1], num_blocks, stride=2)
        self.stage3 = repeat_block(block, widths[1], widths[2], num_blocks, stride=2)
        self.norm = nn.BatchNorm2d(widths[2])
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(widths[2], num_classes)
        draw_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, K)."""
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.head(self.flatten(self.pool(self.relu(self.norm(x)))))


def wrn16_1(num_classes: int = 100, in_channels: int = 3, dropout: float = 0.0) -> WideResNet:
    """WRN-16-1: 0.18 M parameters and 26.7 M MACs at 32 px for 100 classes."""
    return WideResNet(16, 1, num_classes, dropout, in_channels)


def wrn16_2(num_classes: int = 100, in_channels: int = 3, dropout: float = 0.0) -> WideResNet:
    """WRN-16-2: 0.70 M parameters and 101 M MACs at 32 px for 100 classes."""
    return WideResNet(16, 2, num_classes, dropout, in_channels)


def wrn16_4(num_classes: int = 100, in_channels: int = 3, dropout: float = 0.0) -> WideResNet:
    """WRN-16-4: 2.77 M parameters and 393 M MACs at 32 px for 100 classes."""
    return WideResNet(16, 4, num_classes, dropout, in_channels)


def wrn28_4(num_classes: int = 100, in_channels: int = 3, dropout: float = 0.0) -> WideResNet:
    """WRN-28-4: 5.87 M parameters and 846 M MACs at 32 px for 100 classes."""
    return WideResNet(28, 4, num_classes, dropout, in_channels)


def wrn28_10(num_classes: int = 100, in_channels: int = 3, dropout: float = 0.0) -> WideResNet:
    """WRN-28-10: 36.54 M parameters and 5.243 G MACs at 32 px for 100 classes."""
    return WideResNet(28, 10, num_classes, dropout, in_channels)


def mobilenet_v1_cifar(
    num_classes: int = 100, in_channels: int = 3, width: float = 1.0
) -> EfficientNet:
    """Timm's `mobilenetv1_100` with three down-samplings instead of five.

    The stem and the first depthwise block of the 128-channel stage keep the resolution; the 256-,
    512- and 1024-channel stages still halve it, so that 32 px end in a 4x4 map. Module names and
    parameter shapes are timm's at width 1: 3.31 M parameters and 176 M MACs at 32 px for 100
    classes.

    Args:
        num_classes: Outputs of the classifier.
        in_channels: Channels of the image.
        width: Multiplier of every channel count, rounded by timm to multiples of 8.

    Raises:
        ValueError: If width is not positive.

    Source: Howard et al. 2017, https://arxiv.org/abs/1704.04861, table 1.
    """
    return _mobilenet_v1(num_classes, in_channels, width, (1, 1, 2, 2, 2), nn.ReLU6)


def mobilenet_v1_cifar_8x8(
    num_classes: int = 100, in_channels: int = 3, width: float = 1.0
) -> EfficientNet:
    """MobileNet v1 with two down-samplings, so that 32 px end in an 8x8 map.

    The 512- and 1024-channel stages halve the resolution; activations are ReLU. 3.31 M parameters
    and 612 M MACs at 32 px for 100 classes.

    Args:
        num_classes: Outputs of the classifier.
        in_channels: Channels of the image.
        width: Multiplier of every channel count, rounded by timm to multiples of 8.

    Raises:
        ValueError: If width is not positive.

    Source: Howard et al. 2017, https://arxiv.org/abs/1704.04861, table 1, with the strides that Yao
        et al. 2020, https://arxiv.org/abs/2008.07816, use on CIFAR-100.
    """
    return _mobilenet_v1(num_classes, in_channels, width, (1, 1, 1, 2, 2), nn.ReLU)


def _mobilenet_v1(
    num_classes: int,
    in_channels: int,
    width: float,
    strides: tuple[int, ...],
    activation: type[nn.Module],
) -> EfficientNet:
    if width <= 0:
        raise ValueError(f"width must be > 0, got {width}")
    repeats, channels = (1, 2, 2, 6, 2), (64, 128, 256, 512, 1024)
    stages = [
        [f"dsa_r{repeat}_k3_s{stride}_c{count}"]
        for repeat, stride, count in zip(repeats, strides, channels, strict=True)
    ]
    model = EfficientNet(
        decode_arch_def(stages),
        num_classes=num_classes,
        num_features=0,
        in_chans=in_channels,
        stem_size=32,
        round_chs_fn=partial(round_channels, multiplier=width),
        act_layer=activation,
    )
    # timm has no argument for the stem's stride. Its table of reductions counts the stride of 2.
    model.conv_stem.stride = (1, 1)
    for stage in model.feature_info:
        stage["reduction"] //= 2
    return model
