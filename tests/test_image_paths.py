"""Images that words name: files, folders and patterns."""

from __future__ import annotations

from pathlib import Path

from mutualnet.image_paths import find_images


def test_folders_and_patterns_give_their_images_sorted(photo_folder, photo):
    inside = [photo_folder / "b" / "a [1].jpg", photo_folder / "z.PNG"]
    assert list(find_images([str(photo_folder)])) == inside
    assert list(find_images([str(photo), str(photo_folder / "b")])) == [photo, inside[0]]
    assert list(find_images([f"{photo_folder}/**/*"])) == inside
    assert list(find_images([f"{photo_folder}/*.PNG"])) == inside[1:]
    assert list(find_images([str(inside[0])])) == inside[:1]  # a name that looks like a pattern
    for nothing in ("none.png", f"{photo_folder}/*.txt", f"{photo_folder}/b/.cache/d"):
        assert list(find_images([nothing])) == [Path(nothing)]
