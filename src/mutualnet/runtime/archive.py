"""Named files in one file or in a folder: read with suspicion, replaced as a whole."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from mutualnet.runtime.manifest import FILE_NAME, ArtifactError

_TIME = (1980, 1, 1, 0, 0, 0)
"""Of every entry, so that equal content makes equal files."""
_CHUNK = 2**20
_MAX_FILES = 10_000
_MAX_BYTES_OF_TEXT = 2**28
_BROKEN = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError)
"""What Python's reader of zips raises for damaged ones."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Archive:
    """A zip without compression, or a folder with the same files.

    Args:
        path: Of the zip or the folder.

    Raises:
        ArtifactError: If it is neither, or a zip that could do harm: names that leave its folder or
            come twice, compressed, encrypted or linked entries.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            return
        if not path.is_file():
            raise ArtifactError("there is no such file")
        try:
            self._zip = zipfile.ZipFile(path)
            entries = self._zip.infolist()
        except _BROKEN as error:
            raise ArtifactError(f"it is not a whole archive ({error})") from None
        try:
            _check(entries)
        except ArtifactError:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._zip is not None:
            self._zip.close()

    @property
    def is_folder(self) -> bool:
        """Whether its files are already files."""
        return self._zip is None

    def holds(self, name: str) -> bool:
        """Whether there is a file of that name."""
        if self._zip is None:
            return (self.path / name).is_file()
        return name in self._zip.namelist()

    def read(self, name: str) -> bytes:
        """Content of a small file.

        Raises:
            ArtifactError: If it is not there, cannot be read, or is not small.
        """
        if self._size(name) > _MAX_BYTES_OF_TEXT:
            raise ArtifactError(f"{name} must have at most {_MAX_BYTES_OF_TEXT} bytes")
        try:
            with self.open(name) as file:
                return file.read(_MAX_BYTES_OF_TEXT + 1)
        except _BROKEN as error:
            raise ArtifactError(f"{name} cannot be read ({error})") from None

    def open(self, name: str) -> IO[bytes]:
        """Begin to read a file.

        Raises:
            ArtifactError: If it is not there.
        """
        self._size(name)
        try:
            return (self.path / name).open("rb") if self._zip is None else self._zip.open(name)
        except _BROKEN as error:
            raise ArtifactError(f"{name} cannot be read ({error})") from None

    def _size(self, name: str) -> int:
        if self._zip is None:
            file = self.path / name
            if not file.is_file():
                raise ArtifactError(f"{name} is missing")
            return file.stat().st_size
        try:
            return self._zip.getinfo(name).file_size
        except KeyError:
            raise ArtifactError(f"{name} is missing") from None

    def copy(self, name: str, out: IO[bytes]) -> None:
        """Write a file's content elsewhere.

        Raises:
            ArtifactError: If it is not there or cannot be read.
        """
        with self.open(name) as file:
            while True:
                try:
                    chunk = file.read(_CHUNK)
                except _BROKEN as error:
                    raise ArtifactError(f"{name} cannot be read ({error})") from None
                if not chunk:
                    return
                out.write(chunk)


def _check(entries: list[zipfile.ZipInfo]) -> None:
    if not entries or len(entries) > _MAX_FILES:
        raise ArtifactError(f"it must hold 1 to {_MAX_FILES} files, got {len(entries)}")
    names: set[str] = set()
    for entry in entries:
        name = entry.filename
        if not FILE_NAME.fullmatch(name):
            raise ArtifactError(f"its files must have plain names, got {name!r:.80}")
        if name in names:
            raise ArtifactError(f"it holds {name} twice")
        names.add(name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ArtifactError(f"its files must be stored as they are, {name} is not")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ArtifactError(f"its files must be plain files, {name} is not")


@contextmanager
def replaced_when_whole(path: Path) -> Iterator[Path]:
    """A file to write in place of another, which it replaces once the block has ended well.

    Args:
        path: The file to replace, with its mode if it is there; of a link what it leads to.

    Yields:
        A name beside it, with the same ending.
    """
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        if path.is_file():
            partial.chmod(stat.S_IMODE(path.stat().st_mode))
        partial.replace(path)
    except OSError as error:
        if error.errno in _NO_ROOM and not hasattr(error, "__notes__"):  # of the inner of two
            error.add_note(f"It is {path.parent} that needs room.")
        raise
    finally:
        # What is no folder has no such file in it, which another error tells.
        with suppress(NotADirectoryError):
            partial.unlink(missing_ok=True)


def write_archive(path: Path, files: Mapping[str, bytes | Path]) -> None:
    """Write a zip that takes the place of what is at the path when it is whole.

    Args:
        path: Of the zip.
        files: Content by name, in the order of the zip: bytes, or where a file with it lies.
    """
    with (
        replaced_when_whole(path) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with archive.open(entry, "w", force_zip64=True) as out:
                _put(content, out)


def _put(content: bytes | Path, out: IO[bytes]) -> None:
    if isinstance(content, bytes):
        out.write(content)
        return
    with content.open("rb") as file:
        shutil.copyfileobj(file, out, _CHUNK)
