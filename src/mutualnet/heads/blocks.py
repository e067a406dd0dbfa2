"""Blocks that heads are built of: those of the networks that they belong to, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual
from timm.models.resnet import Bottleneck
from torch import nn

from mutualnet.models.building_blocks import BlockType, repeat_block, shortcut_convolution
from mutualnet.models.cifar import PreActivationBlock
from mutualnet.models.cifar_densenet import Transition, dense_layers
from mutualnet.models.cifar_resnet import BasicBlock, PreActivationBottleneck


@dataclass(frozen=True, slots=True)
class Blocks:
    """A run of equal blocks, of which the first may lower the resolution.

    Raises:
        ValueError: If the kind is unknown, or a number is out of its range.
    """

    kind: str
    """A key of `BLOCKS`."""
    channels: int
    """Of each block's output; for `dense` the channels that each layer adds."""
    count: int = 1
    stride: int = 1
    """Of the first block."""
    expansion: float | None = None
    """Channels between: for `inverted` this many times the input's (6 by default), for bottlenecks
    this share of the output's (1/4 by default)."""

    def __post_init__(self) -> None:
        if self.kind not in BLOCKS:
            raise ValueError(f"kind must be one of {', '.join(BLOCKS)}, got {self.kind!r}")
        for name in ("channels", "count", "stride"):
            value = getattr(self, name)
            if not isinstance(value, int):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        if self.expansion is not None and not self.expansion > 0:
            raise ValueError(f"expansion must be > 0 or None, got {self.expansion}")

    def build(self, in_channels: int) -> tuple[nn.Module, int]:
        """The blocks for an input of some channels, and the channels of their output."""
        return BLOCKS[self.kind](in_channels, self)


def _repeat(block: BlockType, in_channels: int, blocks: Blocks) -> tuple[nn.Module, int]:
    made = repeat_block(block, in_channels, blocks.channels, blocks.count, stride=blocks.stride)
    return made, blocks.channels


def _middle(out_channels: int, blocks: Blocks) -> int:
    return max(1, round(out_channels * (0.25 if blocks.expansion is None else blocks.expansion)))


def _bottleneck(in_channels: int, blocks: Blocks) -> tuple[nn.Module, int]:
    def block(i: int, o: int, /, *, stride: int) -> nn.Module:
        convolution = shortcut_convolution(i, o, stride)
        shortcut = None if convolution is None else nn.Sequential(convolution, nn.BatchNorm2d(o))
        if _middle(o, blocks) * Bottleneck.expansion != o:
            raise ValueError("expansion of a bottleneck must be 1/4 and its channels divide by 4")
        return Bottleneck(i, o // Bottleneck.expansion, stride, shortcut)

    return _repeat(block, in_channels, blocks)


def _pre_activation_bottleneck(in_channels: int, blocks: Blocks) -> tuple[nn.Module, int]:
    middle = _middle(blocks.channels, blocks)
    return _repeat(partial(PreActivationBottleneck, mid_channels=middle), in_channels, blocks)


def _dense(in_channels: int, blocks: Blocks) -> tuple[nn.Module, int]:
    if blocks.stride not in (1, 2):
        raise ValueError(f"stride of dense layers must be 1 or 2, got {blocks.stride}")
    layers = dense_layers(in_channels, blocks.channels, blocks.count)
    made = [layers] if blocks.stride == 1 else [Transition(in_channels), layers]
    return nn.Sequential(*made), in_channels + blocks.count * blocks.channels


def _depthwise(
    in_channels: int, blocks: Blocks, *, activation: type[nn.Module] = nn.ReLU
) -> tuple[nn.Module, int]:
    block = partial(DepthwiseSeparableConv, noskip=True, pw_act=True, act_layer=activation)
    return _repeat(block, in_channels, blocks)


def _inverted(in_channels: int, blocks: Blocks) -> tuple[nn.Module, int]:
    ratio = 6.0 if blocks.expansion is None else blocks.expansion
    block = partial(InvertedResidual, exp_ratio=ratio, act_layer=nn.ReLU6)
    return _repeat(block, in_channels, blocks)


def _pointwise(in_channels: int, blocks: Blocks) -> tuple[nn.Module, int]:
    def block(i: int, o: int, /, *, stride: int) -> nn.Module:
        convolution = nn.Conv2d(i, o, 1, stride, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(o), nn.ReLU6(inplace=True))

    return _repeat(block, in_channels, blocks)


BLOCKS: dict[str, Callable[[int, Blocks], tuple[nn.Module, int]]] = {
    "basic": partial(_repeat, BasicBlock),
    "bottleneck": _bottleneck,
    "pre_activation": partial(_repeat, PreActivationBlock),
    "pre_activation_bottleneck": _pre_activation_bottleneck,
    "dense": _dense,
    "depthwise": _depthwise,
    "depthwise_relu6": partial(_depthwise, activation=nn.ReLU6),
    "inverted": _inverted,
    "pointwise": _pointwise,
}
"""Kinds of blocks: two 3x3 convolutions (`basic`), three convolutions (`bottleneck`), both with
`pre_activation`, layers of a DenseNet (`dense`), depthwise separable convolutions (`depthwise`),
MobileNet v2's (`inverted`), and 1x1 convolutions (`pointwise`)."""
