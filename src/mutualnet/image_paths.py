"""Files of images, or of another kind, that words of a command line name; how they are shown."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

EXTENSIONS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".ppm",
    ".bmp",
    ".pgm",
    ".tif",
    ".tiff",
    ".webp",
    ".gif",
)
"""Endings of images' names, in small letters."""


def find_images(words: Sequence[str], extensions: tuple[str, ...] = EXTENSIONS) -> Iterator[Path]:
    """Files, the images in folders and below, and the images that quoted patterns match; sorted.

    What is nowhere comes as it was written.

    Args:
        words: Of the command line.
        extensions: Endings of the names of what is looked for, in small letters.
    """
    for word in words:
        if not glob.has_magic(word) or os.path.lexists(word):
            yield from _images_of(Path(word), extensions)
            continue
        # Not Path.glob, which takes no pattern that begins with a slash.
        names = sorted(glob.glob(word, recursive=True))  # noqa: PTH207
        found = [path for name in names for path in _some(name, extensions)]
        yield from dict.fromkeys(found) if found else [Path(word)]


def _some(name: str, extensions: tuple[str, ...]) -> list[Path]:
    """A match of a pattern that is an image, or the images in one that is a folder."""
    path = Path(name)
    if path.is_dir():
        return images_below(path, extensions)
    return [path] if name.lower().endswith(extensions) else []


def _images_of(path: Path, extensions: tuple[str, ...]) -> list[Path]:
    return (images_below(path, extensions) or [path]) if path.is_dir() else [path]


def images_below(folder: Path, extensions: tuple[str, ...] = EXTENSIONS) -> list[Path]:
    """Images in a folder and in those below, but for hidden ones; sorted."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and name.lower().endswith(extensions)
        ]
    return sorted(found)


def shown(path: Path | str) -> str:
    """A name that can be printed, also where it is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def as_typed(path: Path | str) -> str:
    """A name as a shell takes it, for commands that messages tell to copy."""
    return shlex.quote(shown(path))
