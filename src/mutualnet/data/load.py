"""Load a data set by its name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from mutualnet.clip_steps import ClipSampling
from mutualnet.data import (
    cifar,
    clip_transforms,
    clips,
    coco,
    digits,
    imagefolder,
    kinetics,
    listed,
    multilabel,
    photos,
)
from mutualnet.data.preprocessing import Preprocessing
from mutualnet.data.shares import choose_from, use_share
from mutualnet.data.splits import DataSplits, SplitSettings

LOADERS: dict[str, Callable[..., DataSplits]] = {
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "coco": coco.load_coco,
    "coco_boxes": coco.load_coco_boxes,
    "digits": digits.load_digits,
    "food101": listed.load_food101,
    "imagefolder": imagefolder.load_imagefolder,
    "imagenet": listed.load_imagenet,
    "indoor67": listed.load_indoor67,
    "kinetics": kinetics.load_kinetics,
    "multilabel": multilabel.load_multilabel,
    "video_folder": clips.load_video_folder,
}


_PHOTOS: dict[str, Callable[[int], Preprocessing]] = {
    "cifar10": cifar.photo_transform,
    "cifar100": cifar.photo_transform,
    "coco": coco.photo_transform,
    "coco_boxes": coco.photo_transform,
    "digits": digits.photo_transform,
    "food101": photos.photo_transform,
    "imagefolder": photos.photo_transform,
    "imagenet": photos.photo_transform,
    "indoor67": photos.photo_transform,
    "kinetics": clip_transforms.frame_transform,
    "multilabel": photos.photo_transform,
    "video_folder": clip_transforms.frame_transform,
}


def photo_transform(name: str, resolution: int) -> Preprocessing:
    """What turns a photo into an input for networks trained on a data set, without the data set.

    Args:
        name: As for `load_data`.
        resolution: Side of the result, in pixels.

    Returns:
        A function of a PIL image of any mode or size that gives a normalised (C, H, W).

    Raises:
        ValueError: If no data set has that name.
    """
    if name not in _PHOTOS:
        raise ValueError(f"data must be one of {', '.join(_PHOTOS)}, got {name!r}")
    return _PHOTOS[name](resolution)


def load_data(
    name: str,
    path: str | Path | None = None,
    *,
    resolution: int,
    select_share: float = 0.1,
    select_from: Literal["train", "test"] = "train",
    train_share: float = 1.0,
    seed: int = 0,
    augment: str = "standard",
    policy: str = "none",
    cutout: int = 0,
    **options: Any,
) -> DataSplits:
    """Load the three splits of a data set.

    Args:
        name: `digits` (scikit-learn's, no files needed), `cifar10`, `cifar100`, `imagenet`,
            `food101`, `indoor67`, `imagefolder` (any folder of one folder per class),
            `multilabel` (a folder with `labels.csv`), `coco` (objects with masks, in COCO's files
            and folders), `coco_boxes` (without), `kinetics` or `video_folder`.
        path: Folder that holds the data; None for digits.
        resolution: Side of the images to produce, in pixels: the largest of the space. Photos with
            objects keep their aspect, and this is their short side.
        select_share: Share of the train images held out to choose the table's winners, in [0, 1).
            With 0 all are trained on, and a tenth of those chooses.
        select_from: `test` chooses on the test split, which then tells nothing about new images.
        train_share: Share of every class of the other train images to use, in (0, 1].
        seed: Which images are held out. The test split never depends on it.
        augment: `standard` or `none`; photos also know `wide_crop`, whose random crops go
            down to 0.08 of the area instead of 0.25.
        policy: `autoaugment` or `fast_autoaugment` adds what a search has found, `none` nothing.
        cutout: Side of the square that Cutout blanks in train images, in pixels; 0 for none.
        **options: What one data set alone understands: `download=True` (CIFAR) or
            `max_damaged_share=0.01` (photos and videos), `num_frames`, `stride`, `num_clips` and
            `num_crops` (videos, see `ClipSampling`).

    Raises:
        ValueError: If no data set has that name, an argument is out of its range, or the folder
            does not hold what the name promises.
    """
    if name not in LOADERS:
        close = difflib.get_close_matches(name, LOADERS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"data must be one of {', '.join(LOADERS)}, got {name!r}.{hint}")
    if isinstance(resolution, bool) or resolution != int(resolution) or resolution < 1:
        raise ValueError(f"resolution must be a whole number of pixels >= 1, got {resolution}")
    unknown = sorted(set(options) - LOADER_OPTIONS[name])
    if unknown:
        known = ", ".join(sorted(LOADER_OPTIONS[name])) or "none"
        raise ValueError(f"{name} has no option {unknown[0]!r}. Its options: {known}.")
    settings = SplitSettings(
        resolution=int(resolution),
        select_share=select_share,
        seed=seed,
        augment=augment,
        policy=policy,
        cutout=cutout,
    )
    place = None if path is None else Path(path).expanduser()
    data = use_share(LOADERS[name](place, settings, **options), train_share, seed)
    data = choose_from(data, select_from, select_share=select_share, seed=seed)
    if data.task == "multilabel":
        multilabel.check_labels_carried(data)
    return data


_SAMPLING = {field.name for field in fields(ClipSampling)}

LOADER_OPTIONS: dict[str, set[str]] = {
    "cifar10": {"download"},
    "cifar100": {"download"},
    "coco": {"max_damaged_share"},
    "coco_boxes": {"max_damaged_share"},
    "digits": set(),
    "food101": {"max_damaged_share"},
    "imagefolder": {"max_damaged_share"},
    "imagenet": {"max_damaged_share"},
    "indoor67": {"max_damaged_share"},
    "kinetics": {"max_damaged_share", *_SAMPLING},
    "multilabel": {"max_damaged_share"},
    "video_folder": {"max_damaged_share", *_SAMPLING},
}
"""Keyword arguments of a loader beyond those that all share."""
