"""Photo data sets that say in files of lists which images are for training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torchvision.transforms import v2

from mutualnet.data.files import Files, ListedFiles, hold_out_select, is_regular_file
from mutualnet.data.imagefolder import load_imagefolder
from mutualnet.data.photos import photo_splits, train_transform
from mutualnet.data.splits import DataSplits, SplitSettings
from mutualnet.messages import shorten


def load_food101(
    path: Path | None,
    settings: SplitSettings,
    *,
    max_damaged_share: float = 0.01,
) -> DataSplits:
    """Load Food-101 as it is published, and as torchvision stores it.

    Args:
        path: Folder with `images/<class>/<number>.jpg` and `meta/{train,test}.json`, or the one
            above it (`food-101/`).
        settings: What is held out, and how train images are changed.
        max_damaged_share: Share of a split's files that may be damaged, in [0, 1). One always may.

    Raises:
        ValueError: If the folder does not hold this, or names an image that is not there.
    """
    root = _root(path, ("food-101",), "meta/train.json", "Food-101 (images/, meta/train.json)")
    lists = {}
    for split in ("train", "test"):
        file = root / "meta" / f"{split}.json"
        try:
            content = json.loads(file.read_text("utf-8"))
            lists[split] = [f"images/{name}.jpg" for names in content.values() for name in names]
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"{file} must be JSON of classes and image names ({error})") from None
    changed = train_transform(settings)
    return _splits("food101", root, lists, settings, changed, max_damaged_share)


def load_indoor67(
    path: Path | None,
    settings: SplitSettings,
    *,
    max_damaged_share: float = 0.01,
) -> DataSplits:
    """Load MIT's indoor scenes (67 classes) as they are published.

    Args:
        path: Folder with `Images/<class>/*.jpg`, `TrainImages.txt` and `TestImages.txt`, whose
            lines are `<class>/<file>`.
        settings: What is held out, and how train images are changed.
        max_damaged_share: Share of a split's files that may be damaged, in [0, 1). One always may.

    Raises:
        ValueError: If the folder does not hold this, or names an image that is not there.
    """
    root = _root(path, ("indoor67",), "TrainImages.txt", "MIT-67 (Images/, TrainImages.txt)")
    lists = {}
    for split, name in (("train", "TrainImages.txt"), ("test", "TestImages.txt")):
        try:
            lines = (root / name).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{root / name} must be a list of images ({error})") from None
        lists[split] = [f"Images/{line.strip()}" for line in lines if line.strip()]
    changed = train_transform(settings)
    return _splits("indoor67", root, lists, settings, changed, max_damaged_share)


load_imagenet = partial(load_imagefolder, name="imagenet")
"""ImageNet: `train/<class>/` and `val/<class>/`, as everybody's scripts lay it out."""


def _root(path: Path | None, below: Sequence[str], mark: str, what: str) -> Path:
    for folder in () if path is None else (path, *(path / name for name in below)):
        if (folder / mark).is_file():
            return folder
    raise ValueError(f"path must be the folder of {what}, got {path}, which has no {mark}")


def _splits(
    name: str,
    root: Path,
    lists: dict[str, list[str]],
    settings: SplitSettings,
    changed: v2.Compose,
    max_damaged_share: float,
) -> DataSplits:
    class_names = sorted({Path(file).parent.name for file in lists["train"]})
    numbers = {name: number for number, name in enumerate(class_names)}
    splits = {}
    for split, files in lists.items():
        missing = [file for file in files if not is_regular_file(root / file)]
        if missing:
            raise ValueError(
                f"{root} must hold every image of its {split} list, got {len(missing)} that are "
                f"not there: {shorten(missing)}"
            )
        strange = sorted({Path(file).parent.name for file in files} - set(numbers))
        if strange:
            raise ValueError(f"the {split} list has classes that train lacks: {shorten(strange)}")
        splits[split] = Files(files, [numbers[Path(file).parent.name] for file in files])
    train, select = hold_out_select(splits["train"], settings, class_names)
    divided = {"train": train, "select": select, "test": splits["test"]}
    listed = ListedFiles(root, divided, class_names, settings.selection)
    return photo_splits(name, listed, changed, settings.resolution, max_damaged_share)
