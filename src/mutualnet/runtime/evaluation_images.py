"""Images with their labels, in folders of classes or in one file of arrays."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mutualnet.image_paths import images_below, shown
from mutualnet.messages import reason_of, shorten
from mutualnet.runtime.manifest import Manifest

_SPLITS = (("test",), ("val", "valid", "validation"))
"""Names in small letters of folders that hold the folders of classes; the first one counts."""
_LAYOUT = "one folder for each class, or such folders in test/ or val/"
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What numpy's reader raises for damaged files."""


@dataclass(frozen=True, kw_only=True)
class EvaluationImages:
    """Images that were not read yet, or arrays of pixels, and what is on each."""

    place: str
    """Where they are, for people."""
    images: Sequence[Path] | np.ndarray
    """Files of images or videos, or pixels uint8 (N, H, W, 3) or (N, H, W)."""
    labels: np.ndarray
    """Class numbers (N), or zeros and ones (N, K)."""
    empty_classes: tuple[str, ...] = ()
    """Classes without an image, where they are in folders."""

    def __len__(self) -> int:
        return len(self.labels)


def read_labelled(path: Path, manifest: Manifest) -> EvaluationImages:
    """Find labelled images of an artifact's classes.

    Args:
        path: A folder with one folder for each class, by the names of the manifest, or with such
            folders in `test` or else `val`; for images also an .npz with the arrays `images` uint8
            (N, H, W, 3) or (N, H, W) and `labels`: class numbers (N), or zeros and ones (N, K) of
            K labels.
        manifest: Tells task and classes.

    Raises:
        ValueError: If there is neither, or classes or arrays do not fit the artifact.
    """
    if path.is_dir():
        return _read_folder(path, manifest)
    if manifest.clips is not None:
        raise ValueError(f"labelled videos must be a folder with one for each class, got {path}")
    if path.is_file() and path.suffix.lower() == ".npz":
        return _read_arrays(path, manifest)
    found = f"{shown(path)}, which is neither" if path.exists() else f"nothing at {shown(path)}"
    raise ValueError(f"labelled images must be a folder or an .npz file, got {found}")


def _read_folder(path: Path, manifest: Manifest) -> EvaluationImages:
    if manifest.task == "multilabel":
        raise ValueError(
            "a folder gives each image one class, but this artifact tells several labels. Give an "
            ".npz with `images` uint8 (N, H, W, 3) and `labels` (N, "
            f"{len(manifest.class_names)}) of zeros and ones: numpy.savez(FILE, images=..., "
            "labels=...)"
        )
    names = manifest.class_names
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(
            f"folders need classes with names of their own, but two are {doubled[0]!r}. Give an "
            ".npz with `images` and `labels`."
        )
    folder = _folder_of_classes(path, names)
    found = _folders(folder)
    missing = [repr(name) for name in names if name not in found]
    extra = [repr(shown(name)) for name in found if name not in names]
    if missing or extra:
        differences = [f"without {shorten(missing)}"] if missing else []
        differences += [f"with {shorten(extra)} besides"] if extra else []
        raise ValueError(
            f"{shown(folder)} must have the artifact's {len(names)} classes ({_LAYOUT}), got it "
            f"{' and '.join(differences)}. An empty folder is a class without images."
        )
    files, labels, empty = [], [], []
    for label, name in enumerate(names):
        images = images_below(folder / name, manifest.endings)
        files += images
        labels += [label] * len(images)
        if not images:
            empty.append(name)
    if not files:
        raise ValueError(f"{shown(folder)} must hold {manifest.kind}s, got none in any class")
    return EvaluationImages(
        place=shown(folder),
        images=files,
        labels=np.asarray(labels, np.int64),
        empty_classes=tuple(empty),
    )


def _folder_of_classes(path: Path, names: Sequence[str]) -> Path:
    """The folder itself, or that of a split in it."""
    found = _folders(path)
    if set(found) == set(names):
        return path
    for wanted in _SPLITS:
        splits = [name for name in found if name.lower() in wanted and name not in names]
        if len(splits) > 1:
            raise ValueError(
                f"{shown(path)} must have one {wanted[0]} split, got {splits[0]}/ and {splits[1]}/."
                " Name the one that is meant."
            )
        if splits and _folders(path / splits[0]):
            return path / splits[0]
    return path


def _folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones and those of macOS archives."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
            )
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{shown(folder)} must be a folder that can be listed: {reason}") from None


def _read_arrays(path: Path, manifest: Manifest) -> EvaluationImages:
    arrays: dict[str, Any] = {}
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip, as numpy.savez writes")
        # Python objects in it are refused: reading them would run what a stranger wrote.
        with np.load(path, allow_pickle=False) as file:
            for name in ("images", "labels"):
                if name not in file.files:
                    raise ValueError(f"it must hold the arrays images and labels, has no {name}")
                arrays[name] = file[name]
    except _DAMAGED as error:
        reason = reason_of(error)
        raise ValueError(f"{shown(path)} must be an .npz that can be read: {reason}") from None
    images, labels = arrays["images"], arrays["labels"]
    is_grey, is_rgb = images.ndim == 3, images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (is_grey or is_rgb) or not images.size:
        raise ValueError(
            f"images in {shown(path)} must be pixels uint8 (N, H, W, 3) or (N, H, W), got "
            f"{images.dtype} {images.shape}"
        )
    _check_labels(path, labels, len(images), manifest)
    return EvaluationImages(place=shown(path), images=images, labels=labels.astype(np.int64))


def _check_labels(path: Path, labels: np.ndarray, count: int, manifest: Manifest) -> None:
    num_classes = len(manifest.class_names)
    shape: tuple[int, ...] = (count,)
    if manifest.task == "classification":
        what = f"class numbers 0..{num_classes - 1} of shape ({count},)"
        fits = labels.dtype.kind in "iu"
        high = num_classes - 1
    else:
        shape, what = (count, num_classes), f"zeros and ones of shape ({count}, {num_classes})"
        fits = labels.dtype.kind in "iubf"
        high = 1
    if not fits or labels.shape != shape:
        raise ValueError(
            f"labels in {shown(path)} must be {what}, got {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() > high:
        got = f"{labels.min()} to {labels.max()}"
    elif manifest.task == "multilabel" and not np.isin(labels, (0, 1)).all():
        got = "others"  # shares between, or NaN
    else:
        return
    raise ValueError(f"labels in {shown(path)} must be {what}, got {got}")
