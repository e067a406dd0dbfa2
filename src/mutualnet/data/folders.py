"""What lies below folders of classes, where no link may bring other images in."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path


def list_folders(folder: Path, named: Collection[str] | None = None) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones and those of macOS archives.

    Args:
        folder: Where to look.
        named: Names in small letters; others are left alone. None for all.

    Raises:
        ValueError: If the folder cannot be listed, a link in it leads nowhere, or a name is not
            UTF-8.
    """
    found = []
    for entry in _entries(folder):
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if named is not None and entry.name.lower() not in named:
            continue
        if entry.is_symlink():
            _check_target(entry.path)  # a disk that is not mounted must not cost a class or a split
        if entry.is_dir():
            found.append(_utf8(entry))
    return found


def check_apart(folders: Iterable[Path]) -> None:
    """Refuse folders that are, or contain, each other by way of links.

    Args:
        folders: Splits, or classes of all splits. They may be links, to another disk for example.

    Raises:
        ValueError: If an image would lie in two of them.
    """
    real: dict[Path, str] = {}  # of parents, so that a plain folder costs no look at the disk
    placed = []
    for folder in folders:
        if folder.is_symlink():
            place = os.path.realpath(folder)
        else:
            above = real.setdefault(folder.parent, os.path.realpath(folder.parent))
            place = os.path.join(above, folder.name)  # noqa: PTH118
        placed.append((Path(place).parts, folder))
    placed.sort(key=lambda pair: pair[0])
    for (outer, first), (inner, second) in pairwise(placed):
        if inner[: len(outer)] == outer:
            relation = "the same folder as" if inner == outer else "a folder that contains"
            raise ValueError(
                f"splits and classes must lie apart, but {_arrow(first)} is {relation} "
                f"{_arrow(second)}. Remove the link."
            )


def list_files(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Every file below a class folder, but hidden ones, in an order of names alone.

    The folder itself may be a link. Below it links may lead to other places in it.

    Args:
        folder: Of one class.

    Yields:
        A file's path, and whether it is a regular one: reading a pipe or a device may never end.

    Raises:
        ValueError: If a folder cannot be listed, or a link leads out of the class, nowhere, or to a
            folder above it.
    """
    yield from _list_files(folder, (os.path.realpath(folder),))


def _list_files(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[Path, bool]]:
    """Files of a folder, then those of the folders in it; `above` are their real places."""
    below: list[tuple[Path, str]] = []
    for entry in _entries(folder):
        path = folder / entry.name
        target = f"{above[-1]}/{entry.name}"
        if entry.is_symlink():
            target = _check_target(entry.path)
            if not f"{target}/".startswith(f"{above[0].rstrip('/')}/"):
                raise ValueError(
                    f"links below a class must stay in its folder, but {_arrow(path)} leads out of "
                    "it. Put a copy of the images there (cp -rL), or link the whole class folder."
                )
            if target in above:
                raise ValueError(
                    f"links below a class must not lead back, but {_arrow(path)} is a folder that "
                    "contains the link. Remove it."
                )
        if entry.is_dir():
            below.append((path, target))
        elif not entry.name.startswith("."):
            yield path, entry.is_file()
    for path, target in below:
        yield from _list_files(path, (*above, target))


def _entries(folder: Path) -> Sequence[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(
            f"{folder} must be a folder that can be listed: {error.strerror}"
        ) from None


def _check_target(path: str) -> str:
    """Where a link leads."""
    try:
        os.stat(path)  # noqa: PTH116
    except OSError as error:
        why = "is a loop" if error.errno == errno.ELOOP else f"leads nowhere: {error.strerror}"
        raise ValueError(
            f"links must lead to files or folders, but {_arrow(Path(path))} {why}. Remove it, or "
            "mount the disk that it leads to."
        ) from None
    return os.path.realpath(path)


def _utf8(entry: os.DirEntry[str]) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"names of classes must be UTF-8, got {os.fsencode(entry.path)!r}. Rename the folder."
        ) from None
    return entry.name


def _arrow(path: Path) -> str:
    return f"{path} -> {os.readlink(path)}" if path.is_symlink() else str(path)  # noqa: PTH115
