"""Labelled images in folders and arrays, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mutualnet.runtime import read_labelled
from tests.small_artifact import picture


@pytest.mark.parametrize("names", [("test", "val"), ("Test", "train"), ("VAL", "train")])
def test_splits_are_found_and_test_comes_first(artifact, folder, tmp_path, names):
    place = tmp_path / "data"
    for name in names:
        (place / name).mkdir(parents=True)
    folder.rename(place / names[0] / "inner")
    for path in (place / names[0] / "inner").iterdir():
        path.rename(place / names[0] / path.name)
    (place / names[0] / "inner").rmdir()
    (place / names[1] / "other").mkdir()
    data = read_labelled(place, artifact.manifest)
    assert data.place == str(place / names[0])
    assert len(data) == 50


def test_a_class_may_be_called_test(artifact, tmp_path):
    from dataclasses import replace

    manifest = replace(artifact.manifest, class_names=("test", "train"))
    for name in manifest.class_names:
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(picture()).save(tmp_path / "data" / name / "a.png")
    assert read_labelled(tmp_path / "data", manifest).labels.tolist() == [0, 1]


def test_a_class_may_be_without_images(artifact, folder):
    for path in (folder / "c").iterdir():
        path.unlink()
    data = read_labelled(folder, artifact.manifest)
    assert data.empty_classes == ("c",)
    assert len(data) == 45


def test_folders_of_other_classes_are_refused(artifact, folder):
    (folder / "c").rename(folder / "cc")
    with pytest.raises(ValueError, match=r"10 classes .* without 'c' and with 'cc' besides"):
        read_labelled(folder, artifact.manifest)
    (folder / "cc").rename(folder / "c")
    for path in folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="must hold images, got none in any class"):
        read_labelled(folder, artifact.manifest)


IMAGES = np.zeros((4, 6, 6, 3), np.uint8)

LABELS = np.zeros(4, np.int64)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "has no labels"),
        ({"labels": LABELS}, "has no images"),
        ({"images": IMAGES / 255, "labels": LABELS}, r"must be pixels uint8 .* got float64"),
        ({"images": IMAGES[..., :2], "labels": LABELS}, r"got uint8 \(4, 6, 6, 2\)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"got uint8 \(0, 6, 6, 3\)"),
        ({"images": IMAGES, "labels": LABELS[:3]}, r"of shape \(4,\), got int64 \(3,\)"),
        ({"images": IMAGES, "labels": LABELS + 0.5}, r"got float64 \(4,\)"),
        ({"images": IMAGES, "labels": LABELS + 10}, r"class numbers 0..9 .* got 10 to 10"),
        ({"images": IMAGES, "labels": LABELS - 1}, r"got -1 to -1"),
        ({"images": IMAGES, "labels": np.array([None] * 4)}, "allow_pickle=False"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(artifact, tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_labelled(tmp_path / "a.npz", artifact.manifest)


def test_what_is_no_data_is_refused(artifact, tmp_path):
    for content in (b"nothing", b"PK\x03\x04 broken", b"\x93NUMPY\x01\x00"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a.npz must be an .npz that can be read: "):
            read_labelled(tmp_path / "a.npz", artifact.manifest)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"a folder or an .npz file, got .*a.txt, which is neith"):
        read_labelled(tmp_path / "a.txt", artifact.manifest)
    with pytest.raises(ValueError, match="got nothing at"):
        read_labelled(tmp_path / "b.npz", artifact.manifest)
