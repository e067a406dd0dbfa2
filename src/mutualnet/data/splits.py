"""The three splits of a data set: train, select, test."""

from __future__ import annotations

import hashlib
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from mutualnet.data.preprocessing import Preprocessing
from mutualnet.messages import shorten
from mutualnet.selection import Selection


class LabelledImages(Dataset[tuple[Tensor, Any]]):
    """One split: pairs of a normalised float image (C, H, W) and its class number.

    Where an image may carry several labels, a row of K zeros and ones takes the number's place; in
    data of other kinds whatever their task learns from.
    """

    @property
    @abstractmethod
    def labels(self) -> np.ndarray:
        """Class number (N) or row of labels (N, K) of every image, without reading the images."""

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        """Image and class number at an index."""

    def fetch(self, indices: Sequence[int], keys: np.ndarray) -> list[tuple[Tensor, Any]]:
        """Images and labels of a batch, each augmented by random numbers of its own key.

        Every generator that a transform may use (torch's, numpy's, Python's) is seeded with the
        key first.

        Args:
            indices: Which images.
            keys: (N) uint64. The same index and key give the same pixels in any process.
        """
        items = []
        for index, key in zip(indices, keys, strict=True):
            seed = int(key >> np.uint64(1))
            torch.random.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            items.append(self[index])
        return items

    def collate(self, items: list[Any]) -> Any:
        """One batch of some items of this split; by default their tensors are stacked."""
        return default_collate(items)

    def __len__(self) -> int:
        return len(self.labels)


class SomeImages(LabelledImages):
    """A part of a split.

    Args:
        images: The split.
        positions: Which of its images.
    """

    def __init__(self, images: LabelledImages, positions: np.ndarray) -> None:
        self.images = images
        self.positions = positions

    @property
    def labels(self) -> np.ndarray:
        """Labels of the part."""
        return self.images.labels[self.positions]

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        return self.images[int(self.positions[index])]

    def fetch(self, indices: Sequence[int], keys: np.ndarray) -> list[tuple[Tensor, Any]]:
        """Images of the part, as the split makes them."""
        return self.images.fetch(self.positions[list(indices)].tolist(), keys)

    def collate(self, items: list[Any]) -> Any:
        """A batch, as the split makes it."""
        return self.images.collate(items)


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """What every data set is told: the size of its images, what to hold out, how to augment."""

    resolution: int
    """Side of the images to produce, in pixels."""
    select_share: float = 0.1
    """Share of the train images held out, in [0, 1); with 0 the select images are all of train."""
    seed: int = 0
    """Which images are held out."""
    augment: str = "standard"
    """`standard`, `none`, or for photos `wide_crop`."""
    policy: str = "none"
    """`autoaugment` or `fast_autoaugment`: what a search has found, on CIFAR-10 or ImageNet."""
    cutout: int = 0
    """Side of the square that Cutout blanks, in pixels of the result; 0 for none."""

    def __post_init__(self) -> None:
        if not 0 <= self.select_share < 1:
            raise ValueError(f"select_share must be in [0, 1), got {self.select_share}")

    @property
    def selection(self) -> Selection:
        """What the select images of `hold_out_select` are."""
        if self.select_share == 0:
            return Selection(kind="trained")
        return Selection(kind="held_out", share=self.select_share)

    def hold_out_select(
        self,
        labels: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        keys: Sequence[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the train and of the select images; see `stratified_split`."""
        if self.select_share == 0:
            return np.arange(len(labels)), np.arange(len(labels))
        return stratified_split(
            labels,
            self.select_share,
            seed=self.seed,
            purpose="select",
            class_names=class_names,
            keys=keys,
        )


@dataclass(frozen=True, kw_only=True)
class DataSplits:
    """A data set, divided once.

    Train images are augmented; select and test images are not.
    """

    name: str
    """What the data set is called in `load_data`."""
    train: LabelledImages
    """Images to learn from, with the training augmentation."""
    select: LabelledImages
    """Images that choose the table's winners."""
    test: LabelledImages
    """Images to report on, once. They never depend on the seed."""
    class_names: tuple[str, ...]
    """Name of each class number."""
    mean: tuple[float, ...]
    """Mean of each channel that the images were normalised with, for values in [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation of each channel, for values in [0, 1]."""
    resolution: int
    """Side of the images, in pixels."""
    data_id: str
    """Hash of the names, the labels and the division, but not of the pixels."""
    eval_transform: Preprocessing
    """What the test images went through: a PIL image of any mode or size to (C, H, W)."""
    task: str = "classification"
    """Kind of the labels: the `data_kind` of the tasks that learn from them."""
    selection: Selection = field(default_factory=Selection)
    """What the select images are."""

    @property
    def calibration(self) -> LabelledImages:
        """Images to take BatchNorm statistics from: train, with the training augmentation."""
        return self.train

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return len(self.mean)


def stratified_split(
    labels: Sequence[int] | np.ndarray,
    share: float,
    *,
    seed: int,
    purpose: str,
    class_names: Sequence[str],
    keys: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Hold a share of every class out.

    An image is chosen by a hash of its key, so the division is the same on every machine and with
    every version of numpy.

    Args:
        labels: Class number of each image.
        share: Share of each class to hold out, in (0, 1). At least one image of a class goes to
            either side.
        seed: Another seed chooses other images.
        purpose: Name of the part that is held out; the same seed chooses other images for another.
        class_names: Name of each class number, for the error.
        keys: What identifies each image, its position by default.

    Returns:
        Positions that stay and positions that are held out, both ascending.

    Raises:
        ValueError: If share is not in (0, 1), leaves no class an image, or a class has fewer than
            two.
    """
    if not 0 < share < 1:
        raise ValueError(f"{purpose}_share must be in (0, 1), got {share}")
    labels = np.asarray(labels)
    counts = np.bincount(labels, minlength=len(class_names))
    if counts.min() < 2:
        few = [f"{name!r} ({n})" for name, n in zip(class_names, counts, strict=True) if n < 2]
        raise ValueError(
            f"every class must have at least 2 images to hold some out for {purpose}, got fewer "
            f"in {shorten(few)}. Add images or leave the class out."
        )
    if (np.round(share * counts) >= counts).all():
        raise ValueError(
            f"{purpose}_share={share} leaves nothing to train on: the largest of "
            f"{len(class_names)} classes has {counts.max()} images. Lower it."
        )
    chosen = pick_share(labels, share, seed=seed, purpose=purpose, keys=keys, num_left=1)
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def pick_share(
    labels: np.ndarray,
    share: float,
    *,
    seed: int,
    purpose: str,
    keys: Sequence[str] | None = None,
    num_left: int = 0,
) -> np.ndarray:
    """Positions of a share of every class, at least one image each, ascending.

    Args:
        labels: Class number of each image.
        share: In (0, 1].
        seed: Another seed chooses other images.
        purpose: The same seed chooses other images for another.
        keys: What identifies each image, its position by default.
        num_left: Images of each class that stay in any case.
    """
    names = map(str, range(len(labels))) if keys is None else keys
    ranks = np.array([_rank(f"{purpose}/{seed}/{key}") for key in names])
    picked = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(members))), len(members) - num_left)
        picked.append(members[np.argsort(ranks[members], kind="stable")[:count]])
    return np.sort(np.concatenate(picked))


def hash_data(
    name: str, splits: Mapping[str, tuple[Sequence[str] | np.ndarray, Sequence[Any] | np.ndarray]]
) -> str:
    """Identify a division by a short hash.

    Args:
        name: Name of the data set.
        splits: For each split, what identifies its images and their class numbers.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(name.encode())
    for split, (keys, labels) in splits.items():
        lines = "\n".join(f"{key}\t{label}" for key, label in zip(keys, labels, strict=True))
        digest.update(f"\n[{split}]\n{lines}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _rank(key: str) -> bytes:
    # File names may hold bytes that are not UTF-8.
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def check_augment(augment: str, known: Sequence[str]) -> None:
    """Refuse an augmentation that the data set does not have.

    Raises:
        ValueError: If it is none of the known ones.
    """
    if augment not in known:
        raise ValueError(f"augment must be one of {', '.join(known)}, got {augment!r}")
