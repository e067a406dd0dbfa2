"""Images that words name: files, folders and patterns."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mutualnet.image_paths import as_typed, find_images


def test_folders_and_patterns_give_their_images_sorted(photo_folder, photo):
    inside = [photo_folder / "b" / "a [1].jpg", photo_folder / "z.PNG"]
    assert list(find_images([str(photo_folder)])) == inside
    assert list(find_images([str(photo), str(photo_folder / "b")])) == [photo, inside[0]]
    assert list(find_images([f"{photo_folder}/**/*"])) == inside
    assert list(find_images([f"{photo_folder}/*.PNG"])) == inside[1:]
    assert list(find_images([str(inside[0])])) == inside[:1]  # a name that looks like a pattern
    for nothing in ("none.png", f"{photo_folder}/*.txt", f"{photo_folder}/b/.cache/d"):
        assert list(find_images([nothing])) == [Path(nothing)]


@pytest.mark.parametrize("name", ["run", "runs/a b", "it's", "$HOME", "1x64 layer1.*=0.5"])
def test_a_command_to_copy_names_what_was_meant(name):
    assert shlex.split(f"mutualnet table {as_typed(Path(name))}") == ["mutualnet", "table", name]
