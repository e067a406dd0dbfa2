"""The mode of files that libraries write for us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mode_of_new_files(path: Path) -> Iterator[None]:
    """Give a file that is written inside the block the mode that the process gives its own.

    Some libraries write by way of a private temporary file, which only its owner may read.

    Args:
        path: Replaced if it is there.
    """
    path.unlink(missing_ok=True)
    path.touch()  # the umask can be read in no other way that threads do not see
    mode = path.stat().st_mode
    yield
    path.chmod(mode)
