"""Mix the images of a batch with each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from mutualnet.config import DataConfig


def mix_images(images: Tensor, labels: Tensor, config: DataConfig, num_classes: int) -> Any:
    """Mix the images of a batch with each other by Mixup or CutMix, if the recipe says so.

    Args:
        images: (N, C, H, W).
        labels: (N) class numbers.
        config: Strengths of both; with both of them one is drawn.
        num_classes: K.

    Returns:
        Images and labels (N, K) as shares of classes; as they were if nothing is to be mixed.

    Source: Zhang et al. 2018, https://arxiv.org/abs/1710.09412 (Mixup);
        Yun et al. 2019, https://arxiv.org/abs/1905.04899 (CutMix).
    """
    mixers: list[nn.Module] = []
    if config.mixup_alpha:
        mixers.append(v2.MixUp(alpha=config.mixup_alpha, num_classes=num_classes))
    if config.cutmix_alpha:
        mixers.append(v2.CutMix(alpha=config.cutmix_alpha, num_classes=num_classes))
    if not mixers:
        return images, labels
    return mixers[int(torch.randint(len(mixers), ()))](images, labels)
