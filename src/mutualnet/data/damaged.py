"""Files of images or clips of which a few may be damaged."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mutualnet.data.splits import LabelledImages
from mutualnet.image_files import read_image
from mutualnet.messages import first_line, shorten

logger = logging.getLogger(__name__)


def check_damaged_share(share: float) -> None:
    """Refuse a share of damaged files that is none.

    Raises:
        ValueError: If it is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"max_damaged_share must be in [0, 1), got {share}")


class DamagedFiles:
    """Which files of a split are damaged; the workers of a DataLoader share one count.

    Args:
        count: Files of the split.
        path_of: Where the file of an index lies.
        split: Name of the split, for messages.
        kind: What a file is, for messages.
        max_share: Share of files that may be damaged, in [0, 1). One file always may.

    Raises:
        ValueError: If the share is out of its range.
    """

    def __init__(
        self,
        count: int,
        path_of: Callable[[int], Path],
        *,
        split: str,
        kind: str,
        max_share: float,
    ) -> None:
        check_damaged_share(max_share)
        self.max_share = max_share
        self._path_of, self._split, self._kind = path_of, split, kind
        self._known = torch.zeros(count, dtype=torch.uint8).share_memory_()

    @property
    def paths(self) -> list[Path]:
        """Files found damaged so far, by all workers."""
        return [self._path_of(int(index)) for index in self._known.nonzero()]

    def read(self, index: int, read: Callable[[], Any], substitute: str) -> Any | None:
        """Read a file, or note that it is damaged, say so once, and return None.

        Args:
            index: Of the file.
            read: Raises an error if the file is damaged.
            substitute: What takes its place, for the warning.
        """
        if self._known[index]:
            return None
        try:
            return read()
        except Exception as error:  # Decoders raise all kinds of errors.
            self._known[index] = 1
            logger.warning(
                "damaged %s %s (%s: %s): %s takes its place",
                self._kind,
                self._path_of(index),
                type(error).__name__,
                first_line(error),
                substitute,
            )
            return None

    def check_share(self) -> None:
        """Refuse to go on with more damaged files than allowed.

        Raises:
            ValueError: If there are more.
        """
        allowed = max(1, int(self.max_share * len(self._known)))
        num_damaged = int(self._known.sum())
        if num_damaged > allowed:
            raise ValueError(
                f"at most {allowed} of the {len(self._known)} {self._split} {self._kind}s may be "
                f"damaged (max_damaged_share={self.max_share}), got {num_damaged}: "
                f"{shorten([str(path) for path in self.paths])}. "
                "Repair or remove them, or raise data.max_damaged_share."
            )


class ImageFiles(LabelledImages):
    """Images read from files when they are asked for.

    A damaged file is named in a warning, once, and from then on the next sound image of the same
    class in this split takes its place. More damaged files than allowed are an error. The workers
    of a DataLoader share one count.

    Args:
        root: Folder that names are relative to.
        names: Path of each file.
        labels: Class number of each file, or a row of zeros and ones per file.
        transform: Applied to what was read.
        split: Name of the split, for messages.
        max_damaged_share: Share of files that may be damaged, in [0, 1). One file always may.
        read: Decodes a file, and raises an error if that is damaged; an RGB image by default.
        kind: What a file is, for messages.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        labels: Sequence[int] | np.ndarray,
        transform: Callable[[Any], Tensor],
        *,
        split: str,
        max_damaged_share: float = 0.01,
        read: Callable[[Path], Any] = read_image,
        kind: str = "image",
    ) -> None:
        self.root = root
        self.transform = transform
        self.split = split
        self.read = read
        self.kind = kind
        # Arrays, because forked workers copy every Python object whose reference count they touch.
        self._names = np.array([os.fsencode(name) for name in names])
        labels = np.asarray(labels)
        self._labels = labels.astype(np.int64 if labels.ndim == 1 else np.float32)
        self._damaged = DamagedFiles(
            len(names), self.path, split=split, kind=kind, max_share=max_damaged_share
        )

    @property
    def max_damaged_share(self) -> float:
        """Share of files that may be damaged."""
        return self._damaged.max_share

    @property
    def damaged(self) -> list[Path]:
        """Files found damaged so far, by all workers."""
        return self._damaged.paths

    @property
    def labels(self) -> np.ndarray:
        """Class number of each file (N), or its row of labels (N, K)."""
        return self._labels

    def path(self, index: int) -> Path:
        """Where the file of an index lies."""
        return self.root / os.fsdecode(self._names[index].item())

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be below {len(self)}, got {index}")
        index %= len(self)
        image = self._read(index)
        if image is None:
            index, image = self._read_substitute(index)
        label = self._labels[index]
        # Substitutes bring their own labels, which differ only where there are rows of them.
        return self.transform(image), int(label) if label.ndim == 0 else torch.from_numpy(label)

    def _read(self, index: int) -> Any | None:
        """Decode a file, or note that it is damaged and return None."""
        substitute = f"another {self.split} {self.kind} of its class"
        return self._damaged.read(index, lambda: self.read(self.path(index)), substitute)

    def _read_substitute(self, index: int) -> tuple[int, Any]:
        """Decode the next sound file of the same class, starting over at the end."""
        self._damaged.check_share()
        members = np.arange(len(self))
        if self._labels.ndim == 1:
            members = np.flatnonzero(self._labels == self._labels[index])
        start = int(np.searchsorted(members, index)) + 1
        for substitute in np.roll(members, -start):
            image = self._read(int(substitute))
            self._damaged.check_share()
            if image is not None:
                return int(substitute), image
        raise ValueError(
            f"every class must have a sound {self.kind}, but all {len(members)} {self.split} "
            f"{self.kind}s of the class of {self.path(index)} are damaged. "
            "Repair them or leave the class out."
        )
