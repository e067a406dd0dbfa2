"""Handwritten digits that come with scikit-learn: 1797 grey images of 8x8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mutualnet.data.arrays import ArrayImages, ArrayTransform, photo_steps
from mutualnet.data.augment import Cutout, Jiggle
from mutualnet.data.preprocessing import Preprocessing
from mutualnet.data.splits import (
    DataSplits,
    SplitSettings,
    check_augment,
    hash_data,
    stratified_split,
)

MEAN = (0.3053,)
STD = (0.3759,)
TEST_SHARE = 0.25
"""Share of each class that is always the test split."""


def photo_transform(resolution: int) -> Preprocessing:
    """What turns a photo into an input, as for a test image; no data set is read."""
    plain = ArrayTransform(resolution=resolution, mean=MEAN, std=STD)
    return photo_steps(8, plain)


def load_digits(
    path: Path | None,
    settings: SplitSettings,
) -> DataSplits:
    """Load scikit-learn's digits, light strokes on dark ground, resized to the resolution.

    The standard augmentation shifts by up to a tenth of the side, turns by up to 10 degrees and
    scales by up to a tenth.

    Args:
        path: Must be None; the images come with scikit-learn.
        settings: What is held out, and how train images are changed.

    Raises:
        ValueError: If an argument is out of its range.
    """
    if path is not None:
        raise ValueError(f"path must be None for digits, which come with scikit-learn, got {path}")
    check_augment(settings.augment, ("standard", "none"))
    if settings.policy != "none":
        raise ValueError(f"policy must be none for digits, got {settings.policy!r}")
    from sklearn.datasets import load_digits as load_arrays  # slow to import, used by this alone

    data, resolution = load_arrays(), settings.resolution
    images = torch.from_numpy(np.round(data.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = data.target.astype(np.int64)
    class_names = tuple(str(name) for name in data.target_names)
    rest, test = stratified_split(
        labels, TEST_SHARE, seed=0, purpose="test", class_names=class_names
    )
    kept, held_out = settings.hold_out_select(labels[rest], class_names)
    train, select = rest[kept], rest[held_out]
    plain = ArrayTransform(resolution=resolution, mean=MEAN, std=STD)
    augmented = ArrayTransform(
        resolution=resolution,
        mean=MEAN,
        std=STD,
        augment=(Jiggle(resolution=resolution),) if settings.augment == "standard" else (),
        finish=(Cutout(side=settings.cutout),) if settings.cutout else (),
    )
    targets = torch.from_numpy(labels)
    return DataSplits(
        name="digits",
        train=ArrayImages(images, targets, train, augmented),
        select=ArrayImages(images, targets, select, plain),
        test=ArrayImages(images, targets, test, plain),
        class_names=class_names,
        mean=MEAN,
        std=STD,
        resolution=resolution,
        data_id=hash_data(
            "digits",
            {
                split: (positions, labels[positions])
                for split, positions in (("train", train), ("select", select), ("test", test))
            },
        ),
        eval_transform=photo_transform(resolution),
        selection=settings.selection,
    )
