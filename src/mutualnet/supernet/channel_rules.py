"""How many channels a group keeps at a width: the papers' rules, by architecture."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

DIVISOR = 8
"""Channels come in multiples of this, which is what fast kernels want."""


def make_divisible(value: float, divisor: int = DIVISOR) -> int:
    """Round to the nearest multiple of `divisor`, never below 1 and never more than 10 % down.

    Source: Sandler et al. 2018, https://arxiv.org/abs/1801.04381, with the minimum of 1 that
        US-Net needs for widths below 0.25.
    """
    rounded = max(1, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelRule:
    """Channels of one group as a function of the width multiplier.

    Raises:
        ValueError: If the ratio is not positive.
    """

    ratio: float = 1.0
    """The group is this many times the rounded count of another one: 6 for the expansion of
    MobileNet v2, 0.25 for the bottleneck of ResNet-50."""
    fixed: bool = False
    """Whether the group keeps all its channels at every width."""

    def __post_init__(self) -> None:
        if not self.ratio > 0:
            raise ValueError(f"ratio must be > 0, got {self.ratio}")

    def count(self, size: int, share: float, step: int = 1) -> int:
        """Active channels.

        Args:
            size: Channels of the group in the full model.
            share: Width multiplier divided by the one that the full model has, in (0, 1].
            step: Channels that must stay together (those of one group of a grouped convolution).

        Returns:
            Count in [step, size], a multiple of step, equal to size at share 1.
        """
        if self.fixed or share >= 1 - 1e-9:
            return size
        # Guard against 0.7 * 320 = 223.999...: a rounding error must not cost a block of channels.
        base = round(size * share / self.ratio, 6)
        count = round(make_divisible(base) * self.ratio)
        if count % step:
            count = max(step, math.floor(count / step + 0.5) * step)
        return max(min(count, size), min(step, size))

    def __str__(self) -> str:
        if self.fixed:
            return "fixed"
        return "plain" if self.ratio == 1 else f"ratio {self.ratio:g}"


PLAIN = ChannelRule()
FIXED = ChannelRule(fixed=True)

_MOBILENET_V2 = {
    r"blocks\.[1-9]\d*\.\d+\.conv_pw": ChannelRule(ratio=6),
    r"conv_head": FIXED,
}
_TORCHVISION_MOBILENET_V2 = {
    r"features\.([2-9]|1[0-7])\.conv\.0\.0": ChannelRule(ratio=6),
    r"features\.18\.0": FIXED,
}
_BOTTLENECK_RESNET = {
    r"layer\d+\.\d+\.conv[12]": ChannelRule(ratio=0.25),
    r"conv1": ChannelRule(ratio=0.25),
}
_SLOWFAST = {r"(fast_stem|fast|laterals)\..+": FIXED}
_PYRAMID = {r"fpn\..+": FIXED}
"""A feature pyramid on a body is shared by all sub-networks, as in the MutualNet paper. The body
has no ratios: with those of MobileNet v2 it would cost 0.31 at width 0.5, without them 0.29."""
_RULES: dict[str, Mapping[str, ChannelRule]] = {
    r"mobilenetv2_\d+": _MOBILENET_V2,
    r"MobileNetV2": _TORCHVISION_MOBILENET_V2,
    r"resnet(50|101|152)": _BOTTLENECK_RESNET,
    r"ResNet\[Bottleneck\]": _BOTTLENECK_RESNET,
    r"SlowFast": _SLOWFAST,
}
"""Architecture name (a pattern) to layer name (a pattern) to rule. Source: the MutualNet and US-Net
papers' networks; their multiply-adds are met to the million, those of video to 0.01 G."""


def architecture_name(model: nn.Module) -> str:
    """Name by which rules are looked up: timm's architecture, elsewhere the class.

    A class whose blocks come in two kinds carries the kind: `ResNet[Bottleneck]`.
    """
    config = getattr(model, "default_cfg", None)
    if isinstance(config, dict) and config.get("architecture"):
        return str(config["architecture"])
    name = type(model).__name__
    if name == "ResNet":
        kinds = {type(module).__name__ for module in model.modules()}
        block = next((kind for kind in ("Bottleneck", "BasicBlock") if kind in kinds), None)
        return f"{name}[{block}]" if block else name
    return name


def rules_for(
    model: nn.Module, overrides: Mapping[str, ChannelRule] | None = None
) -> dict[str, ChannelRule]:
    """Rules of a model: pattern of a layer's full name to rule, the caller's own first.

    Args:
        model: Looked up by `architecture_name`.
        overrides: Patterns (regular expressions that match a whole layer name) of the caller.
    """
    return {**(overrides or {}), **_known_rules(model)} | dict(overrides or {})


def _known_rules(model: nn.Module) -> Mapping[str, ChannelRule]:
    if all(isinstance(getattr(model, part, None), nn.Module) for part in ("body", "fpn")):
        return {} if getattr(model, "has_elastic_pyramid", False) else _PYRAMID
    name = architecture_name(model)
    return next((rules for key, rules in _RULES.items() if re.fullmatch(key, name)), {})
