"""Wrong labels, to see how robust training is to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from mutualnet.data.splits import LabelledImages
from mutualnet.seeding import Purpose, generator


class NoisyLabels(LabelledImages):
    """A split of which a share of the images carries another class than its own.

    Args:
        images: The split, with one class per image.
        share: Share of its images, in [0, 1], rounded to whole images.
        num_classes: K; each wrong class is drawn evenly from the K - 1 others.
        seed: The same one corrupts the same images in the same way.

    Raises:
        ValueError: If the share is out of its range, or there is no other class.
    """

    def __init__(
        self, images: LabelledImages, share: float, *, num_classes: int, seed: int
    ) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"label_noise must lie in [0, 1], got {share}")
        if images.labels.ndim != 1 or num_classes < 2:
            raise ValueError("label_noise needs one class per image, and at least two classes")
        self.images = images
        self._labels = images.labels.copy()
        rng = generator(seed, Purpose.LABEL_NOISE)
        count = round(share * len(self._labels))
        self.corrupted = np.sort(rng.permutation(len(self._labels))[:count])
        shift = rng.integers(1, num_classes, size=count)
        self._labels[self.corrupted] = (self._labels[self.corrupted] + shift) % num_classes

    @property
    def labels(self) -> np.ndarray:
        """Class numbers, wrong ones included."""
        return self._labels

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        return self.images[index][0], int(self._labels[index])

    def fetch(self, indices: Sequence[int], keys: np.ndarray) -> list[tuple[Tensor, Any]]:
        """Images of a batch, as the split makes them, with this one's labels."""
        items = self.images.fetch(indices, keys)
        return [(item[0], int(self._labels[i])) for i, item in zip(indices, items, strict=True)]
