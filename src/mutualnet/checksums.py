"""Checksums of a folder's files, and new content for several of them that counts as one change."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

CHECKSUMS = "SHA256SUMS"
"""File that holds them, in the format of `sha256sum`."""
_NEW = ".new"
"""Folder of files on their way to take the place of others."""
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Write the checksums of those files that are there."""
    _write(folder, {n: _digest(folder / n) for n in names if (folder / n).is_file()})


def read_checksums(folder: Path) -> dict[str, str] | None:
    """Checksums by file name; None for a folder that has none.

    Raises:
        ValueError: If the file that holds them is damaged.
    """
    path = folder / CHECKSUMS
    try:
        *lines, rest = path.read_bytes().decode("ascii").split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        lines, rest = [], ""
    found = [_LINE.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in found if match is not None}
    if rest or not lines or len(sums) < len(lines):
        raise ValueError(
            f"{path} is damaged: every line must be a SHA-256 and the name of a file. Restore it; "
            "without it nothing is checked."
        )
    return sums


def whole_files(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Where the files are, of those that are there; each has been read through and is whole.

    Args:
        folder: Where `write_checksums` wrote. In one without checksums nothing is checked.
        names: Of files in it.

    Raises:
        ValueError: If a file is not what its checksum says, or has none while others do.
    """
    sums = read_checksums(folder)
    found: dict[str, Path] = {}
    for name in names:
        path = folder / name
        if sums is not None:
            path = _settled(path, sums.get(name))
        if not path.is_file():
            continue
        if sums is not None and _digest(path) != sums.get(name):
            if read_checksums(folder) != sums:  # replaced meanwhile
                return whole_files(folder, names)
            raise ValueError(
                f"{path} is damaged: its SHA-256 is not the one in {CHECKSUMS}. Restore it. If you "
                f"changed it yourself, remove {CHECKSUMS}: without it nothing is checked, and the "
                "next `mutualnet table` writes it anew."
            )
        found[name] = path
    return found


@contextmanager
def replaced_files(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Give files new content all at once, and checksums that go with it.

    Readers find all of the old content or all of the new, whenever this process ends: the moment
    of change is when the file of checksums is replaced. From then on whoever reads finds the new
    files where they wait, and moves on those that are not in place yet. Of several writers each
    waits for the one before, where the file system can lock a folder.

    Args:
        folder: Where the files are, or will be.
        names: Of all files in it that have checksums; written for those without in an older folder.

    Yields:
        An empty folder to write the new files into.
    """
    with _alone(folder):
        sums, new = read_checksums(folder), folder / _NEW
        if sums is None:
            sums = {name: _digest(folder / name) for name in names if (folder / name).is_file()}
        for name, wanted in sums.items():
            _settled(folder / name, wanted)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            yield new
            written = sorted(path.name for path in new.iterdir())
            for name in written:
                # The checksum must not outlive the bytes in a power cut.
                with (new / name).open("rb") as file:
                    os.fsync(file.fileno())
            sums |= {name: _digest(new / name) for name in written}
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        _write(folder, sums)
        for name in written:
            _move(new / name, folder / name)
        new.rmdir()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other writers out of a folder; a killed one lets go by itself."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)  # lockf() takes no folder
        yield
    finally:
        os.close(handle)


def _settled(path: Path, wanted: str | None) -> Path:
    """Move a file in place that a process, ended in the midst of it, has left waiting."""
    waiting = path.parent / _NEW / path.name
    if wanted is None or not waiting.is_file() or (path.is_file() and _digest(path) == wanted):
        return path
    try:
        is_next = _digest(waiting) == wanted
    except FileNotFoundError:
        return path  # another process was faster
    return _move(waiting, path) if is_next else path


def _move(waiting: Path, path: Path) -> Path:
    try:
        waiting.replace(path)
    except FileNotFoundError:  # another process was faster
        pass
    except OSError:
        return waiting  # read-only, but whole
    return path


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError:
        raise ValueError(f"{path} must be readable, got no permission") from None


def _write(folder: Path, sums: dict[str, str]) -> None:
    partial = folder / f".{CHECKSUMS}.partial"
    with partial.open("w", encoding="ascii") as file:
        file.writelines(f"{digest}  {name}\n" for name, digest in sums.items())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / CHECKSUMS)
