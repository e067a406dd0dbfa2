"""Images that fit in memory, augmented a whole batch at a time.

A DataLoader that finds `__getitems__` hands over all positions of a batch at once: tensor
operations then cost microseconds an image where per-image transforms cost a good part of a
millisecond. Every image still draws its own random numbers, from torch's generator, which a
DataLoader seeds in each worker.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from mutualnet.data.convert import to_rgb
from mutualnet.data.splits import LabelledImages


@dataclass(frozen=True, kw_only=True)
class CropFlip:
    """Pad by reflection, crop the old size at random, and flip every other image."""

    pad: int = 4
    """Pixels on each side; the shift of the crop is uniform in [-pad, pad]."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape and type."""
        n, c, h, w = images.shape
        rows = _reflect(torch.arange(h) + torch.randint(-self.pad, self.pad + 1, (n, 1)), h)
        columns = _reflect(torch.arange(w) + torch.randint(-self.pad, self.pad + 1, (n, 1)), w)
        columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(1), columns)
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

    def __call__(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to floats (N, C, resolution, resolution). Outside is 0."""
        n, c = images.shape[:2]
        angle = _uniform(n, math.radians(self.max_degrees))
        scale = 1 + _uniform(n, self.max_scale)
        cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
        # The sampling grid spans [-1, 1], so a share of the side counts twice.
        shift_x, shift_y = _uniform(n, 2 * self.max_shift), _uniform(n, 2 * self.max_shift)
        theta = torch.stack([cosine, -sine, shift_x, sine, cosine, shift_y], 1).view(n, 2, 3)
        size = [n, c, self.resolution, self.resolution]
        grid = F.affine_grid(theta, size, align_corners=True)
        return F.grid_sample(images.float(), grid, align_corners=True)


@dataclass(frozen=True, kw_only=True)
class ArrayTransform:
    """Augment if asked to, resize, normalise: from uint8 pixels to the network's input."""

    resolution: int
    """Side of the images to produce, in pixels."""
    mean: tuple[float, ...]
    """Mean of each channel, for values in [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation of each channel, for values in [0, 1]."""
    augment: Callable[[Tensor], Tensor] | None = None
    """Applied to the whole uint8 batch first."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map uint8 (N, C, H, W) to normalised floats (N, C, resolution, resolution)."""
        if self.augment is not None:
            images = self.augment(images)
        x = images.float()
        if x.shape[-2:] != (self.resolution, self.resolution):
            # The rule by which a task scales a batch down. Only a strong reduction needs a filter.
            shrinks = self.resolution < x.shape[-1]
            x = F.interpolate(
                x,
                (self.resolution, self.resolution),
                mode="bilinear",
                align_corners=not shrinks,
                antialias=shrinks,
            )
        std, mean = torch.tensor(self.std).view(-1, 1, 1), torch.tensor(self.mean).view(-1, 1, 1)
        return x * (1 / (255 * std)) - mean / std


@dataclass(frozen=True, kw_only=True)
class PhotoTransform:
    """Bring any photo to the size and channels of the data set, then treat it as a test image."""

    native_side: int
    """Side of the data set's own images, in pixels: the photo's central square is resized to it."""
    transform: ArrayTransform
    """What test images go through."""

    def __call__(self, image: Image.Image) -> Tensor:
        """Map a PIL image of any mode or size to normalised floats (C, H, W)."""
        image = to_rgb(image)
        if len(self.transform.mean) == 1:
            image = image.convert("L")
        side = self.native_side
        pixels = np.array(ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR))
        tensor = torch.from_numpy(pixels).view(1, side, side, -1).permute(0, 3, 1, 2)
        return self.transform(tensor)[0]


class ArrayImages(LabelledImages):
    """Some images of an array that several splits share.

    Args:
        images: uint8 (N, C, H, W).
        labels: Class numbers (N).
        positions: Which of the N images belong to this split.
        transform: Applied to a uint8 batch.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        positions: np.ndarray,
        transform: Callable[[Tensor], Tensor],
    ) -> None:
        self.images = images
        self.positions = torch.from_numpy(np.ascontiguousarray(positions, dtype=np.int64))
        self.transform = transform
        self._labels = labels[self.positions]

    @property
    def labels(self) -> np.ndarray:
        """Class number of every image."""
        return self._labels.numpy()

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Images and labels of a batch, augmented together."""
        chosen = list(indices)
        images = self.transform(self.images[self.positions[chosen]])
        return list(zip(images, self._labels[chosen].tolist(), strict=True))


def _reflect(index: Tensor, size: int) -> Tensor:
    """Mirror positions outside of [0, size) at the first and last one, which are not repeated."""
    return (size - 1) - ((size - 1) - index.abs()).abs()


def _uniform(count: int, limit: float) -> Tensor:
    """Random numbers in [-limit, limit)."""
    return (torch.rand(count) * 2 - 1) * limit
