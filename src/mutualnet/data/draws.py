"""Random numbers for the images of a batch, each image its own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mutualnet.seeding import uniforms


class Draws:
    """A sequence of random numbers for each image, decided by one key per image.

    Args:
        keys: (N) uint64. Equal keys draw equal numbers, in whatever batch the image comes.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = keys
        self._position = 0

    @classmethod
    def fresh(cls, count: int) -> Draws:
        """Keys from torch's generator."""
        return cls(torch.randint(2**63 - 1, (count,)).numpy().astype(np.uint64))

    def __len__(self) -> int:
        return len(self.keys)

    def uniform(self, count: int = 1) -> Tensor:
        """The next (N, count) numbers in [0, 1), float32."""
        numbers = uniforms(self.keys, self._position, count)
        self._position += count
        # float32 rounds the last few of them up to 1, which is outside.
        return torch.from_numpy(numbers).float().clamp_(max=1 - 2**-24)

    def whole(self, low: int, high: int) -> Tensor:
        """The next (N, 1) whole numbers in [low, high)."""
        return low + (self.uniform() * (high - low)).long()
