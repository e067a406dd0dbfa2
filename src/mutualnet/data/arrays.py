"""Images that fit in memory, augmented a whole batch at a time.

A DataLoader that finds `__getitems__` hands over all positions of a batch at once: tensor
operations then cost microseconds an image where per-image transforms cost a good part of a
millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mutualnet.data.augment import Augment
from mutualnet.data.draws import Draws
from mutualnet.data.preprocessing import (
    Decode,
    Preprocessing,
    Resize,
    ResizeCentralSquare,
    ScaleAndNormalize,
    Step,
    ToTensor,
)
from mutualnet.data.splits import LabelledImages


@dataclass(frozen=True, kw_only=True)
class ArrayTransform:
    """Augment if asked to, resize, normalise: from uint8 pixels to the network's input."""

    resolution: int
    """Side of the images to produce, in pixels."""
    mean: tuple[float, ...]
    """Mean of each channel, for values in [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation of each channel, for values in [0, 1]."""
    augment: tuple[Augment, ...] = ()
    """Applied to the whole uint8 batch first."""
    finish: tuple[Augment, ...] = ()
    """Applied to the normalised floats last."""

    def steps(self, side: int) -> tuple[Step, ...]:
        """What images of a side go through, in pixels, apart from augmentation."""
        resize = (Resize.between(side, self.resolution),) if side != self.resolution else ()
        return (*resize, ScaleAndNormalize(mean=self.mean, std=self.std))

    def __call__(self, images: Tensor, draws: Draws | None = None) -> Tensor:
        """Map uint8 (N, C, H, W) to normalised floats (N, C, resolution, resolution).

        Args:
            images: The batch.
            draws: Random numbers of its images; new ones from torch's generator by default.
        """
        if draws is None and (self.augment or self.finish):
            draws = Draws.fresh(len(images))
        for change in self.augment:
            assert draws is not None
            images = change(images, draws)
        x = images
        for step in self.steps(images.shape[-1]):
            x = step(x)
        for change in self.finish:
            assert draws is not None
            x = change(x, draws)
        return x


def photo_steps(native_side: int, transform: ArrayTransform) -> Preprocessing:
    """Bring any photo to the size and channels of the data set, then treat it as a test image.

    Args:
        native_side: Side of the data set's own images, in pixels: the photo's central square is
            resized to it.
        transform: What test images go through.
    """
    return Preprocessing(
        (
            Decode(mode="L" if len(transform.mean) == 1 else "RGB"),
            ResizeCentralSquare(size=native_side),
            ToTensor(),
            *transform.steps(native_side),
        )
    )


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
        transform: ArrayTransform,
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
        return self._batch(indices, None)

    def fetch(self, indices: Sequence[int], keys: np.ndarray) -> list[tuple[Tensor, int]]:
        """Images and labels of a batch, augmented together by each image's key."""
        return self._batch(indices, Draws(keys))

    def _batch(self, indices: Sequence[int], draws: Draws | None) -> list[tuple[Tensor, int]]:
        chosen = list(indices)
        images = self.transform(self.images[self.positions[chosen]], draws)
        return list(zip(images, self._labels[chosen].tolist(), strict=True))
