"""Preprocessing whose last steps are PyTorch's, for batches and on any device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mutualnet import image_steps
from mutualnet.image_steps import (
    CenterCrop,
    CropEnds,
    Decode,
    ResizeCentralSquare,
    ResizeShortSide,
    ResizeSides,
    Step,
    TaskScaling,
    shrunk_size,
)


@dataclass(frozen=True, kw_only=True)
class ToTensor(image_steps.ToTensor):
    """Pixels as numbers 0-255."""

    def __call__(self, image: Image.Image) -> Tensor:
        """Map to uint8 (C, H, W)."""
        return torch.from_numpy(super().__call__(image))


@dataclass(frozen=True, kw_only=True)
class Resize(image_steps.Resize):
    """Resize numbers to a square, by PyTorch's `interpolate`."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map (C, H, W) or (N, C, H, W) to floats of the size."""
        return _interpolate(
            images.float(), self.size, self.interpolation, self.align_corners, self.antialias
        )


@dataclass(frozen=True, kw_only=True)
class Scale(image_steps.Scale):
    """Whole numbers to floats in [0, 1]."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map uint8 to float32."""
        return images.float() / self.divisor


@dataclass(frozen=True, kw_only=True)
class Normalize(image_steps.Normalize):
    """Subtract the mean of each channel and divide by its standard deviation."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map floats to floats."""
        return (images - _per_channel(self.mean)) / _per_channel(self.std)


@dataclass(frozen=True, kw_only=True)
class ScaleAndNormalize(image_steps.ScaleAndNormalize):
    """Divide by 255, subtract the mean and divide by the standard deviation, in one go."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map numbers 0-255 to floats."""
        std, mean = _per_channel(self.std), _per_channel(self.mean)
        return images.float() * (1 / (self.divisor * std)) - mean / std


@dataclass(frozen=True, kw_only=True)
class ResizeToConfiguration(image_steps.ResizeToConfiguration):
    """Resize normalised images to the resolution of a sub-network, on their device.

    Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978: all sizes of a step come from one
        crop, by bilinear interpolation with aligned corners.
    """

    def __call__(self, images: Tensor, side: int) -> Tensor:
        """Map (C, H, W) or (N, C, H, W) to squares; equal sizes pass through."""
        return _interpolate(images, side, self.interpolation, self.align_corners, self.antialias)


@dataclass(frozen=True, kw_only=True)
class ShrinkToConfiguration(image_steps.ShrinkToConfiguration):
    """Shrink a normalised image with the aspect kept, on its device.

    Differs: MMDetection, which the MutualNet paper's detectors were trained with, resizes the
        original image without a filter; what is made here from the largest one is averaged.
    """

    def __call__(self, image: Tensor, side: int) -> Tensor:
        """Map (C, H, W) to one that is not larger; a short side up to `side` passes through."""
        height, width = image.shape[-2:]
        size = shrunk_size(height, width, side)
        return _interpolate(image, size, self.interpolation, self.align_corners, self.antialias)


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def _interpolate(
    images: Tensor, size: int | tuple[int, int], mode: str, align_corners: bool, antialias: bool
) -> Tensor:
    size = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] == size:
        return images
    batch = images if images.dim() == 4 else images[None]
    batch = F.interpolate(batch, size, mode=mode, align_corners=align_corners, antialias=antialias)
    return batch if images.dim() == 4 else batch[0]


@dataclass(frozen=True)
class Preprocessing(image_steps.ImageSteps):
    """All that an image goes through before a network sees it, in order, to a tensor."""

    steps: tuple[Step, ...]
    last: ResizeToConfiguration | ShrinkToConfiguration | TaskScaling = ResizeToConfiguration()
    """What brings the result to the resolution of a sub-network."""
    kinds: ClassVar[tuple[type, ...]] = (
        Decode,
        CropEnds,
        ResizeShortSide,
        ResizeSides,
        CenterCrop,
        ResizeCentralSquare,
        ToTensor,
        Resize,
        Scale,
        Normalize,
        ScaleAndNormalize,
    )
    last_kinds: ClassVar[tuple[type, ...]] = (
        ResizeToConfiguration,
        ShrinkToConfiguration,
        TaskScaling,
    )

    def __call__(self, image: Image.Image, resolution: int | None = None) -> Tensor:
        """Map a PIL image of any mode or size to normalised floats (C, H, W).

        Args:
            image: As `PIL.Image.open` gives it.
            resolution: Of the sub-network that will see it, in pixels; None for the top one.

        Raises:
            ValueError: If the image cannot be converted, or a task of the user's own scales.
        """
        pixels: Any = super().__call__(image, resolution)
        assert isinstance(pixels, Tensor)
        return pixels
