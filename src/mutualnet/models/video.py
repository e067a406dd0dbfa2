"""Networks for clips (N, C, T, H, W): Slow, SlowFast and X3D."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutualnet.models.building_blocks import check_counts, check_dropout
from mutualnet.space import Subnet

_RESNET50 = (3, 4, 6, 3)
_SLOW_FRAMES = 4
"""Frames of SlowFast's slow pathway where nothing says how many."""
_LATERAL_KERNEL = 5
"""Frames that a lateral convolution of SlowFast sees."""


class ConvNorm(nn.Sequential):
    """A convolution over frames and pixels that keeps their number at stride 1, and its BN.

    Args:
        in_channels: C before.
        out_channels: C after.
        kernel: Frames and pixels that it sees.
        stride: Over frames and pixels.
        groups: Of the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        groups: int = 1,
    ) -> None:
        frames, pixels = kernel
        convolution = nn.Conv3d(
            in_channels,
            out_channels,
            (frames, pixels, pixels),
            (stride[0], stride[1], stride[1]),
            (frames // 2, pixels // 2, pixels // 2),
            groups=groups,
            bias=False,
        )
        super().__init__(convolution, nn.BatchNorm3d(out_channels))


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut; the first may see several frames.

    Args:
        in_channels: C before.
        channels: C of the middle convolution.
        out_channels: C after.
        frames: That the first convolution sees.
        stride: Over pixels, in the middle convolution.
    """

    def __init__(
        self, in_channels: int, channels: int, out_channels: int, *, frames: int, stride: int
    ) -> None:
        super().__init__()
        self.reduce = ConvNorm(in_channels, channels, (frames, 1))
        self.middle = ConvNorm(channels, channels, (1, 3), (1, stride))
        self.expand = ConvNorm(channels, out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = ConvNorm(in_channels, out_channels, stride=(1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C', T, H', W')."""
        y = F.relu(self.reduce(x))
        y = self.expand(F.relu(self.middle(y)))
        return F.relu(y + self.shortcut(x))


def _stage(
    in_channels: int, channels: int, count: int, *, frames: int, stride: int
) -> nn.Sequential:
    """Bottlenecks of equal width, of which the first changes channels and resolution."""
    out = 4 * channels
    first = Bottleneck(in_channels, channels, out, frames=frames, stride=stride)
    rest = (Bottleneck(out, channels, out, frames=frames, stride=1) for _ in range(count - 1))
    return nn.Sequential(first, *rest)


def _stem(in_channels: int, channels: int, frames: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNorm(in_channels, channels, (frames, 7), (1, 2)),
        nn.ReLU(),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    )


class Slow(nn.Module):
    """ResNet-50 over few frames, where only the two last stages look at several of them.

    Args:
        num_classes: K.
        in_channels: C of the clips.
        dropout: Probability before the classifier, in [0, 1).

    Raises:
        ValueError: If a count is below 1 or `dropout` out of range.

    Source: Feichtenhofer et al. 2019, https://arxiv.org/abs/1812.03982, table 1 (slow pathway).
    """

    def __init__(self, num_classes: int = 400, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        check_dropout(dropout)
        self.stem = _stem(in_channels, 64, frames=1)
        self.stages = nn.Sequential(
            _stage(64, 64, _RESNET50[0], frames=1, stride=1),
            _stage(256, 128, _RESNET50[1], frames=1, stride=2),
            _stage(512, 256, _RESNET50[2], frames=3, stride=2),
            _stage(1024, 512, _RESNET50[3], frames=3, stride=2),
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2048, num_classes)
        _draw_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to logits (N, K)."""
        x = self.stages(self.stem(x))
        return self.classifier(self.dropout(x.mean((2, 3, 4))))


class SlowFast(nn.Module):
    """Slow on every eighth frame, beside a narrow network on all of them that it learns from.

    A sub-network narrows the slow pathway alone and shows it fewer frames or pixels: give it a pair
    of clips then. Its frames are the slow pathway's. What comes from the fast pathway is resized to
    the slow one's frames and pixels.

    Args:
        num_classes: K.
        in_channels: C of the clips.
        dropout: Probability before the classifier, in [0, 1).
        alpha: Frames of the fast pathway for each of the slow one.

    Raises:
        ValueError: If a count is below 1 or `dropout` out of range.

    Source: Feichtenhofer et al. 2019, https://arxiv.org/abs/1812.03982, table 1; the resizing of
        lateral features is that of Yang et al. 2020, https://arxiv.org/abs/1909.12978, for video.
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout: float = 0.5,
        alpha: int = 8,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, alpha=alpha)
        check_dropout(dropout)
        self.alpha = alpha
        self.slow_stem = _stem(in_channels, 64, frames=1)
        self.fast_stem = _stem(in_channels, 8, frames=5)
        slow, fast, laterals = [], [], []
        slow_in, fast_in = 64, 8
        for place, count in enumerate(_RESNET50):
            channels, stride = 64 * 2**place, 1 if place == 0 else 2
            laterals.append(
                nn.Sequential(
                    ConvNorm(fast_in, 2 * fast_in, (_LATERAL_KERNEL, 1), (alpha, 1)), nn.ReLU()
                )
            )
            frames = 1 if place < 2 else 3
            slow.append(
                _stage(slow_in + 2 * fast_in, channels, count, frames=frames, stride=stride)
            )
            fast.append(_stage(fast_in, channels // 8, count, frames=3, stride=stride))
            slow_in, fast_in = 4 * channels, channels // 2
        self.slow = nn.ModuleList(slow)
        self.fast = nn.ModuleList(fast)
        self.laterals = nn.ModuleList(laterals)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(slow_in + fast_in, num_classes)
        _draw_weights(self)

    def example_input(self, subnet: Subnet, largest: Subnet) -> tuple[Tensor, Tensor]:
        """Zeros for both pathways in a sub-network: the fast one always sees the largest's clip.

        That has `alpha` times the largest's frames, at its resolution; where yours has others, give
        the supernet an `example_input` (a recipe's has one).
        """
        channels = self.slow_stem[0][0].in_channels  # type: ignore[index, union-attr]
        frames, most = (s.num_frames or _SLOW_FRAMES for s in (subnet, largest))
        side, top = subnet.resolution, largest.resolution
        slow = torch.zeros(1, channels, frames, side, side)
        return slow, torch.zeros(1, channels, most * self.alpha, top, top)

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """Map clips to logits (N, K).

        Args:
            x: (N, C, T, H, W) for the fast pathway, of which the slow one sees every `alpha`-th
                frame; or a pair of what the slow and the fast pathway see.
        """
        slow, fast = (x[:, :, :: self.alpha], x) if isinstance(x, Tensor) else x
        slow, fast = self.slow_stem(slow), self.fast_stem(fast)
        for lateral, slow_stage, fast_stage in zip(
            self.laterals, self.slow, self.fast, strict=True
        ):
            fused = _resized(lateral(fast), slow)
            slow = slow_stage(torch.cat([slow, fused], dim=1))
            fast = fast_stage(fast)
        pooled = torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], dim=1)
        return self.classifier(self.dropout(pooled))


def _resized(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, like.shape[2:], mode="trilinear", align_corners=False)


class SqueezeExcite(nn.Module):
    """Weights every channel by what all frames and pixels hold.

    Args:
        channels: C.
        reduction: Share of C in between, rounded to a multiple of 8.
    """

    def __init__(self, channels: int, reduction: float = 1 / 16) -> None:
        super().__init__()
        inner = _round_to_8(channels * reduction)
        self.reduce = nn.Conv3d(channels, inner, 1)
        self.expand = nn.Conv3d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to the same."""
        weights = x.mean((2, 3, 4), keepdim=True)
        return x * self.expand(F.relu(self.reduce(weights))).sigmoid()


def _round_to_8(channels: float) -> int:
    """The nearest multiple of 8, but at least 8 and 90 % of the channels."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class X3DBlock(nn.Module):
    """A wide depthwise convolution over frames and pixels between two pointwise ones.

    Args:
        in_channels: C before.
        channels: C of the depthwise convolution.
        out_channels: C after.
        stride: Over pixels, in the depthwise convolution.
        has_excitation: Whether channels are weighted by squeeze-excite.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        out_channels: int,
        *,
        stride: int,
        has_excitation: bool,
    ) -> None:
        super().__init__()
        self.expand = ConvNorm(in_channels, channels)
        self.depthwise = ConvNorm(channels, channels, (3, 3), (1, stride), groups=channels)
        self.excite: nn.Module = SqueezeExcite(channels) if has_excitation else nn.Identity()
        self.project = ConvNorm(channels, out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = ConvNorm(in_channels, out_channels, stride=(1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C', T, H', W')."""
        y = F.relu(self.expand(x))
        y = self.project(F.silu(self.excite(self.depthwise(y))))
        return F.relu(y + self.shortcut(x))


class X3D(nn.Module):
    """A small network over clips; XS, S and M differ in the clips that they are shown.

    Args:
        num_classes: K.
        in_channels: C of the clips.
        dropout: Probability before the classifier, in [0, 1).
        depths: Blocks of each stage.
        channels: C of each stage.
        expansion: C of the depthwise convolutions over that of their stage.

    Raises:
        ValueError: If a count is below 1, `dropout` or `expansion` out of range, or there are not
            as many depths as channels.

    Source: Feichtenhofer 2020, https://arxiv.org/abs/2004.04730, table 3.
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout: float = 0.5,
        depths: Sequence[int] = (3, 5, 11, 7),
        channels: Sequence[int] = (24, 48, 96, 192),
        expansion: float = 2.25,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        check_dropout(dropout)
        if len(depths) != len(channels) or not depths or min(*depths, *channels) < 1:
            raise ValueError(
                f"depths and channels must be as many counts >= 1, got {depths} and {channels}"
            )
        if not min(channels) * expansion >= 1:
            raise ValueError(
                f"expansion must leave at least one of {min(channels)} channels, got {expansion}"
            )
        stem = channels[0]
        self.stem = nn.Sequential(
            nn.Conv3d(in_channels, stem, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
            ConvNorm(stem, stem, (5, 1), groups=stem),
            nn.ReLU(),
        )
        stages, last = [], stem
        for count, width in zip(depths, channels, strict=True):
            blocks = []
            for place in range(count):
                blocks.append(
                    X3DBlock(
                        last,
                        int(width * expansion),
                        width,
                        stride=2 if place == 0 else 1,
                        has_excitation=place % 2 == 0,
                    )
                )
                last = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        wide = int(last * expansion)
        self.last = nn.Sequential(ConvNorm(last, wide), nn.ReLU())
        self.features = nn.Linear(wide, 2048, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2048, num_classes)
        _draw_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to logits (N, K)."""
        x = self.last(self.stages(self.stem(x))).mean((2, 3, 4))
        return self.classifier(self.dropout(F.relu(self.features(x))))


def _draw_weights(model: nn.Module) -> None:
    """Kaiming-normal convolutions by fan-out, a small classifier, blocks that begin as identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, Bottleneck | X3DBlock):
            last = module.expand if isinstance(module, Bottleneck) else module.project
            nn.init.zeros_(last[1].weight)  # type: ignore[arg-type]
