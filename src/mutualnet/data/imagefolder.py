"""Any folder of images that has one folder per class."""

from __future__ import annotations

from pathlib import Path

from mutualnet.data.class_folders import list_class_folders
from mutualnet.data.photos import photo_splits, train_transform
from mutualnet.data.splits import DataSplits, SplitSettings
from mutualnet.image_paths import EXTENSIONS


def load_imagefolder(
    path: Path | None,
    settings: SplitSettings,
    *,
    max_damaged_share: float = 0.01,
    name: str = "imagefolder",
) -> DataSplits:
    """Load photos that lie in one folder per class.

    `train/` is split into train and select, and `val/` or `test/` is the test split. With both of
    them, `val/` is the select split and nothing is held out of train. With one folder of classes
    alone, a fifth of each class, always the same files, is the test split. Names of splits may be
    written in capitals.

    The folder, its splits and its classes may be links. Below a class links must stay in it, and
    no two splits or classes may be or contain each other, so that a test image never trains.

    The standard augmentation crops a quarter to all of the area, flips half of the images and
    changes brightness, contrast and saturation by up to 0.4; test images are resized to 256/224 of
    the resolution and cropped at the centre.

    Args:
        path: The folder.
        settings: What is held out, and how train images are changed.
        max_damaged_share: Share of a split's files that may be damaged, in [0, 1). One always may.
        name: Of the data set.

    Raises:
        ValueError: If the folder has neither layout, a class is empty, train and test have other
            classes, a link leads where it must not, an image is a pipe or a device, or an argument
            is out of its range.
    """
    changed = train_transform(settings)
    found = list_class_folders(path, settings, EXTENSIONS, "images")
    return photo_splits(name, found, changed, settings.resolution, max_damaged_share)
