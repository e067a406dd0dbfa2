"""CIFAR-10 and CIFAR-100, read from either of two layouts into memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision.datasets
from PIL import Image

from mutualnet.data.arrays import ArrayImages, ArrayTransform, photo_steps
from mutualnet.data.augment import Augment, CropFlip, Cutout, PerImage, learned_policy
from mutualnet.data.preprocessing import Preprocessing
from mutualnet.data.splits import (
    DataSplits,
    SplitSettings,
    check_augment,
    hash_data,
)

MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)
STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)
"""Mean and standard deviation that the papers use for both data sets."""
SIDE = 32


class _Arrays(NamedTuple):
    """Pixels uint8 (N, 32, 32, 3) and labels (N) of the two official splits."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]


def photo_transform(resolution: int) -> Preprocessing:
    """What turns a photo into an input, as for a test image; no data set is read."""
    plain = ArrayTransform(resolution=resolution, mean=MEAN, std=STD)
    return photo_steps(SIDE, plain)


def load_cifar10(
    path: Path | None,
    settings: SplitSettings,
    *,
    download: bool = False,
) -> DataSplits:
    """Load CIFAR-10; see `load_cifar100`."""
    return _load_cifar("cifar10", 10, path, settings, download)


def load_cifar100(
    path: Path | None,
    settings: SplitSettings,
    *,
    download: bool = False,
) -> DataSplits:
    """Load CIFAR-100 from torchvision's layout or from mosaics, whichever the folder holds.

    The standard augmentation pads by 4 pixels of reflection, crops 32x32 at random and flips half
    of the images. Another resolution than 32 is reached by bilinear resizing afterwards.

    Args:
        path: Folder with torchvision's `cifar-100-python` (CIFAR-10: `cifar-10-batches-py`), or
            with `classes.json`, `{train,test}_labels.npy` and mosaics `{train,test}_NN.jpg` (or
            png) of 32x32 tiles, row by row; or the folder above, if it calls this one by the data
            set's name.
        settings: What is held out, and how train images are changed.
        download: Let torchvision download the official files to path if it holds neither layout.

    Raises:
        ValueError: If the folder holds neither layout, what it holds is not whole, or an argument
            is out of its range.
    """
    return _load_cifar("cifar100", 100, path, settings, download)


def _train_transform(settings: SplitSettings) -> ArrayTransform:
    """What train images go through."""
    check_augment(settings.augment, ("standard", "none"))
    changes: list[Augment] = [CropFlip()] if settings.augment == "standard" else []
    if settings.policy != "none":
        changes.append(PerImage(transform=learned_policy(settings.policy, "cifar10")))
    finish = (Cutout(side=settings.cutout),) if settings.cutout else ()
    return ArrayTransform(
        resolution=settings.resolution,
        mean=MEAN,
        std=STD,
        augment=tuple(changes),
        finish=finish,
    )


def _load_cifar(
    name: str,
    num_classes: int,
    path: Path | None,
    settings: SplitSettings,
    download: bool,
) -> DataSplits:
    augmented = _train_transform(settings)
    arrays = _read(name, path, download)
    if len(arrays.class_names) != num_classes:
        raise ValueError(
            f"{name} must have {num_classes} classes, got {len(arrays.class_names)} in {path}"
        )
    for split, labels in (("train", arrays.train_labels), ("test", arrays.test_labels)):
        if labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(
                f"{split} labels must be in 0..{num_classes - 1}, got {labels.min()}.."
                f"{labels.max()} in {path}"
            )
    train, select = settings.hold_out_select(arrays.train_labels, arrays.class_names)
    test = np.arange(len(arrays.test_labels))
    resolution = settings.resolution
    plain = ArrayTransform(resolution=resolution, mean=MEAN, std=STD)
    train_tensors = _tensors(arrays.train_images, arrays.train_labels)
    test_tensors = _tensors(arrays.test_images, arrays.test_labels)
    return DataSplits(
        name=name,
        train=ArrayImages(*train_tensors, train, augmented),
        select=ArrayImages(*train_tensors, select, plain),
        test=ArrayImages(*test_tensors, test, plain),
        class_names=arrays.class_names,
        mean=MEAN,
        std=STD,
        resolution=resolution,
        data_id=hash_data(
            name,
            {
                "train": (train, arrays.train_labels[train]),
                "select": (select, arrays.train_labels[select]),
                "test": (test, arrays.test_labels),
            },
        ),
        eval_transform=photo_transform(resolution),
        selection=settings.selection,
    )


def _tensors(images: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return pixels, torch.from_numpy(labels.astype(np.int64))


def _read(name: str, path: Path | None, download: bool) -> _Arrays:
    reader = torchvision.datasets.CIFAR10 if name == "cifar10" else torchvision.datasets.CIFAR100
    pickles = reader.base_folder
    if path is not None:
        for folder in (path, path / name):
            if (folder / "train_labels.npy").is_file() and (folder / "classes.json").is_file():
                return _read_mosaics(folder)
            if (folder / pickles).is_dir():
                return _read_pickles(reader, folder, download=False)
        if path.name == pickles and path.is_dir():
            return _read_pickles(reader, path.parent, download=False)
        if download:
            return _read_pickles(reader, path, download=True)
    if path is None:
        found = "no path"
    elif path.is_dir():
        found = f"neither in {path}"
    else:
        found = f"{path}, which is {'a file' if path.exists() else 'not there'}"
    raise ValueError(
        f"path must be a folder with {name} as torchvision stores it ({pickles}/) or as mosaics "
        f"(classes.json, train_labels.npy, train_00.jpg, ...), got {found}. "
        "With download=True torchvision fetches the official files to path, in Python: "
        f"mutualnet.data.load_data({name!r}, path, resolution=32, download=True)."
    )


def _read_pickles(
    reader: type[torchvision.datasets.CIFAR10], root: Path, *, download: bool
) -> _Arrays:
    # torchvision unpickles files of the official MD5 only, so no stranger's pickle runs.
    try:
        train = reader(root, train=True, download=download)
        test = reader(root, train=False)
    except (RuntimeError, OSError) as error:
        action = "downloaded to" if download else "read from"
        raise ValueError(
            f"{reader.base_folder} must be the official files, but could not be {action} {root}: "
            f"{error}"
        ) from error
    return _Arrays(
        train.data,
        np.asarray(train.targets),
        test.data,
        np.asarray(test.targets),
        tuple(train.classes),
    )


def _read_mosaics(folder: Path) -> _Arrays:
    try:
        class_names = tuple(json.loads((folder / "classes.json").read_text("utf-8"))["classes"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{folder / "classes.json"} must be JSON with a list "classes", got {error!r}'
        ) from error
    return _Arrays(
        *_read_mosaic_split(folder, "train"), *_read_mosaic_split(folder, "test"), class_names
    )


def _read_mosaic_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    tiles = []
    for file in sorted(folder.glob(f"{split}_[0-9][0-9].*")):
        try:
            with Image.open(file) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise ValueError(f"mosaic {file} must be a whole image, got {error}") from error
        height, width = pixels.shape[:2]
        if height % SIDE or width % SIDE:
            raise ValueError(
                f"mosaic {file} must be of whole {SIDE}x{SIDE} tiles, got {width}x{height}"
            )
        grid = pixels.reshape(height // SIDE, SIDE, width // SIDE, SIDE, 3)
        tiles.append(grid.swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3))
    labels_file = folder / f"{split}_labels.npy"
    if not labels_file.is_file():
        raise ValueError(f"{folder} must hold {labels_file.name} beside its mosaics, got none")
    try:
        labels = np.load(labels_file, allow_pickle=False).astype(np.int64)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{labels_file} must be an array of labels, got {error}") from error
    num_tiles = sum(len(images) for images in tiles)
    if labels.shape != (num_tiles,) or not num_tiles:
        raise ValueError(
            f"{folder} must hold one {split} label per tile, got labels of shape {labels.shape} "
            f"for {num_tiles} tiles in {len(tiles)} mosaics. A mosaic may be missing."
        )
    return np.concatenate(tiles), labels
