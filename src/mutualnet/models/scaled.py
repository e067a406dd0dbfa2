"""MobileNet v1 with more layers and channels, by the rule of compound scaling."""

from __future__ import annotations

from functools import partial

from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet
from torch import nn


def mobilenet_v1_scaled(
    num_classes: int = 1000,
    in_channels: int = 3,
    depth_mult: float = 1.4,
    width_mult: float = 1.2,
) -> EfficientNet:
    """MobileNet v1 with deeper stages and wider layers.

    Args:
        num_classes: Outputs of the classifier.
        in_channels: Channels of the image.
        depth_mult: Multiplier of the number of blocks in each stage, rounded up.
        width_mult: Multiplier of every channel count, rounded to multiples of 8.

    Raises:
        ValueError: If a multiplier is not positive.

    Source: Tan and Le 2019, https://arxiv.org/abs/1905.11946, section 3.3 and table 3.
    """
    for name, value in (("depth_mult", depth_mult), ("width_mult", width_mult)):
        if not value > 0:
            raise ValueError(f"{name} must be > 0, got {value}")
    stages = [
        ["dsa_r1_k3_s1_c64"],
        ["dsa_r2_k3_s2_c128"],
        ["dsa_r2_k3_s2_c256"],
        ["dsa_r6_k3_s2_c512"],
        ["dsa_r2_k3_s2_c1024"],
    ]
    return EfficientNet(
        decode_arch_def(stages, depth_multiplier=depth_mult),
        num_classes=num_classes,
        num_features=0,
        in_chans=in_channels,
        stem_size=32,
        round_chs_fn=partial(round_channels, multiplier=width_mult),
        act_layer=nn.ReLU6,
    )
