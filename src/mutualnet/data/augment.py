"""Random changes of a batch of training images.

Every change takes the batch and its `Draws`, so that what happens to an image depends on its own
key alone: not on its neighbours, nor on the number of workers or processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from mutualnet.data.draws import Draws
from mutualnet.data.fast_autoaugment import FastAutoAugment

Augment = Callable[[Tensor, Draws], Tensor]

POLICIES = ("none", "autoaugment", "fast_autoaugment")
"""Names of the learned augmentation policies, with the absence of any."""


@dataclass(frozen=True, kw_only=True)
class CropFlip:
    """Pad by reflection, crop the old size at random, and flip every other image."""

    pad: int = 4
    """Pixels on each side; the shift of the crop is uniform in [-pad, pad]."""

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Map (N, C, H, W) to the same shape and type."""
        n, c, h, w = images.shape
        rows = _reflect(torch.arange(h) + draws.whole(-self.pad, self.pad + 1), h)
        columns = _reflect(torch.arange(w) + draws.whole(-self.pad, self.pad + 1), w)
        columns = torch.where(draws.uniform() < 0.5, columns.flip(1), columns)
        # One gather in place of pad, crop and flip: the reflection lies in the indices.
        source = (rows[:, :, None] * w + columns[:, None, :]).view(n, 1, h * w)
        return images.flatten(2).gather(2, source.expand(n, c, h * w)).view(n, c, h, w)


@dataclass(frozen=True, kw_only=True)
class Jiggle:
    """Shift, turn and scale a little while resizing, by one bilinear sampling."""

    resolution: int
    """Side of the images to produce, in pixels."""
    max_shift: float = 0.1
    """Largest shift in either direction, as a share of the side."""
    max_degrees: float = 10.0
    """Largest turn to either side, in degrees."""
    max_scale: float = 0.1
    """Largest change of size, as a share of it."""

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Map (N, C, H, W) to floats (N, C, resolution, resolution). Outside is 0."""
        n, c = images.shape[:2]
        turn, size, across, down = (2 * draws.uniform(4) - 1).unbind(1)
        angle = turn * math.radians(self.max_degrees)
        scale = 1 + size * self.max_scale
        cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
        # The sampling grid spans [-1, 1], so a share of the side counts twice.
        shift_x, shift_y = 2 * self.max_shift * across, 2 * self.max_shift * down
        theta = torch.stack([cosine, -sine, shift_x, sine, cosine, shift_y], 1).view(n, 2, 3)
        shape = [n, c, self.resolution, self.resolution]
        grid = F.affine_grid(theta, shape, align_corners=True)
        return F.grid_sample(images.float(), grid, align_corners=True)


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """Set one square of each image to zero. Its centre is uniform, so it may hang over the edge.

    Source: DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552, section 3.2.
    """

    side: int
    """Of the square, in pixels."""

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Map normalised (N, C, H, W) to the same shape; zero is the data set's mean."""
        h, w = images.shape[-2:]
        top = draws.whole(0, h) - self.side // 2
        left = draws.whole(0, w) - self.side // 2
        rows, columns = torch.arange(h), torch.arange(w)
        is_row = (rows >= top) & (rows < top + self.side)
        is_column = (columns >= left) & (columns < left + self.side)
        hole = is_row[:, None, :, None] & is_column[:, None, None, :]
        return images.masked_fill(hole, 0.0)


@dataclass(frozen=True, kw_only=True)
class PerImage:
    """A transform of single images that draws from torch's generator, under each image's key."""

    transform: nn.Module

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Map uint8 (N, C, H, W) to the same shape."""
        changed = []
        for image, key in zip(images, draws.keys, strict=True):
            torch.random.default_generator.manual_seed(int(key >> 1))
            changed.append(self.transform(image))
        return torch.stack(changed)


def learned_policy(policy: str, images: str) -> nn.Module:
    """An augmentation policy that a search has found, for single uint8 images.

    Args:
        policy: `autoaugment` or `fast_autoaugment`.
        images: What it was searched on: `cifar10` or `imagenet`.

    Raises:
        ValueError: If there is no such policy.

    Source: Cubuk et al. 2019, https://arxiv.org/abs/1805.09501, as torchvision has it;
        Lim et al. 2019, https://arxiv.org/abs/1905.00397.
    Differs: applied after crop and flip; Fast AutoAugment's code applies its own before.
    """
    if policy == "fast_autoaugment":
        return FastAutoAugment(images)
    if policy != "autoaugment":
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    return v2.AutoAugment(v2.AutoAugmentPolicy(images))


def _reflect(index: Tensor, size: int) -> Tensor:
    """Mirror positions outside of [0, size) at the first and last one, which are not repeated."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
