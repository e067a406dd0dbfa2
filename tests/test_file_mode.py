"""A file that a library writes gets the mode of those that the process writes itself."""

from __future__ import annotations

import os
import stat
import tempfile

import pytest

from mutualnet.file_mode import mode_of_new_files


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_private_temporary_file_that_takes_the_place_is_opened(tmp_path, umask):
    path = tmp_path / "weights"
    path.write_text("old")
    path.chmod(0o400)
    before = os.umask(umask)
    try:
        with mode_of_new_files(path):
            number, name = tempfile.mkstemp(dir=tmp_path)
            os.close(number)
            os.replace(name, path)  # noqa: PTH105
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
