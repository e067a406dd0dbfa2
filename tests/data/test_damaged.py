"""Damaged images are named, counted and replaced."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mutualnet.data import load_data
from mutualnet.data.damaged import ImageFiles

# Python 3.12 warns at every fork of a process with threads, which torch always has.
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def damaged_files(folder, num_images=8, damaged=(), share=0.01, transform=None, labels=None):
    """Numbered grey images, of one class unless labels are given."""
    folder.mkdir(exist_ok=True)
    names = [f"{i}.png" for i in range(num_images)]
    for i, name in enumerate(names):
        Image.new("L", (2, 2), i).save(folder / name)
    for i in damaged:
        (folder / names[i]).write_bytes(b"nothing")
    return ImageFiles(
        folder,
        names,
        labels or [0] * num_images,
        transform or (lambda image: torch.tensor(image.getpixel((0, 0))[0])),
        split="train",
        max_damaged_share=share,
    )


def test_a_damaged_image_is_named_once_and_replaced_by_the_next_of_its_class(tmp_path, caplog):
    files = damaged_files(tmp_path, damaged=[7])
    assert [int(image) for image, _ in files] == [0, 1, 2, 3, 4, 5, 6, 0]
    assert [int(image) for image, _ in files] == [0, 1, 2, 3, 4, 5, 6, 0]
    assert files.damaged == [tmp_path / "7.png"]
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert "damaged image" in caplog.text
    assert "7.png (UnidentifiedImageError:" in caplog.text


def test_a_substitute_skips_other_damaged_images(tmp_path):
    files = damaged_files(tmp_path, damaged=[2, 3], share=0.25)
    assert int(files[2][0]) == 4
    assert len(files.damaged) == 2


def test_a_substitute_has_the_same_label(photos):
    for path in (photos / "val" / "cat").iterdir():
        if path.name != "001.png":
            truncate(path)
    splits = load_data("imagefolder", photos, resolution=8, max_damaged_share=0.5)
    sound = splits.test[1]
    for index in (0, 2):
        image, label = splits.test[index]
        assert label == sound[1] == 0
        torch.testing.assert_close(image, sound[0], rtol=0, atol=0)


@pytest.mark.parametrize(("share", "allowed"), [(0.0, 1), (0.01, 1), (0.25, 2)])
def test_more_damaged_images_than_the_stated_share_are_an_error(tmp_path, share, allowed):
    damaged_files(tmp_path, damaged=[])
    list(damaged_files(tmp_path, damaged=range(allowed), share=share))
    files = damaged_files(tmp_path, damaged=range(allowed + 1), share=share)
    with pytest.raises(
        ValueError,
        match=rf"at most {allowed} of the 8 train images may be damaged "
        rf"\(max_damaged_share={share}\), got {allowed + 1}: .*0.png, .*Repair or remove",
    ):
        list(files)


def test_a_class_without_a_sound_image_is_an_error(tmp_path):
    # Three of the four may be damaged: only the class is at fault.
    files = damaged_files(tmp_path, 4, damaged=[0, 1], share=0.99, labels=[0, 0, 1, 1])
    with pytest.raises(ValueError, match="every class must have a sound image, but all 2 train"):
        files[0]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_damaged_share_outside_its_range_is_refused(photos, share):
    with pytest.raises(ValueError, match=r"max_damaged_share must be in \[0, 1\), got"):
        load_data("imagefolder", photos, resolution=8, max_damaged_share=share)


def test_an_error_in_a_transform_is_not_taken_for_damage(tmp_path):
    def fail(image):
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        damaged_files(tmp_path, transform=fail)[0]


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "huge", "vanished"])
def test_every_kind_of_damage_is_survived(tmp_path, kind, monkeypatch, caplog):
    files = damaged_files(tmp_path)
    path = tmp_path / "3.png"
    if kind == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, format="JPEG")
        truncate(path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "vanished":
        path.unlink()
    else:
        # Just above the limit, where Pillow itself only warns.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        Image.new("L", (11, 10)).save(path)
    assert int(files[3][0]) == 4
    assert files.damaged == [path]
    assert "3.png" in caplog.text


def quiet(batches):
    """The rest of an iteration without its errors."""
    while True:
        try:
            yield next(batches)
        except ValueError:
            continue
        except StopIteration:
            return


@FORKS
def test_workers_share_one_count_and_their_error_reaches_the_caller(photos):
    for name in ("cat", "dog"):
        for path in sorted((photos / "train" / name).iterdir())[:4]:
            truncate(path)
    splits = load_data("imagefolder", photos, resolution=8, max_damaged_share=0.5)
    assert sum(len(y) for _, y in DataLoader(splits.train, 4, num_workers=2)) == 27
    num_damaged = len(splits.train.damaged)
    assert num_damaged >= 5
    splits = load_data("imagefolder", photos, resolution=8)
    batches = iter(DataLoader(splits.train, 4, num_workers=2))
    with pytest.raises(ValueError, match="at most 1 of the 27 train images may be damaged"):
        list(batches)
    # Workers whose iterator is left in the middle are joined at some later collection of garbage.
    list(quiet(batches))
