"""Folders of images: their layouts and splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mutualnet.data import load_data
from tests.fixtures import write_images


def sizes(splits):
    return len(splits.train), len(splits.select), len(splits.test)


def test_train_and_val_give_three_splits(photos):
    splits = load_data("imagefolder", photos, resolution=16)
    assert sizes(splits) == (27, 3, 7)
    assert splits.class_names == ("cat", "dog")
    assert splits.in_channels == 3
    assert np.bincount(splits.select.labels).tolist() == [1, 2]
    assert splits.test.path(0) == photos / "val" / "cat" / "000.png"
    for part in (splits.train, splits.select, splits.test):
        image, label = part[len(part) - 1]
        assert image.shape == (3, 16, 16)
        assert image.dtype == torch.float32
        assert label == 1


def test_select_images_are_not_train_images(photos):
    splits = load_data("imagefolder", photos, resolution=16, select_share=0.5)
    paths = [{part.path(i) for i in range(len(part))} for part in (splits.train, splits.select)]
    assert len(paths[0]) == len(paths[1]) == 15
    assert not paths[0] & paths[1]


def test_test_is_another_name_for_val(photos):
    before = load_data("imagefolder", photos, resolution=16)
    (photos / "val").rename(photos / "test")
    assert sizes(load_data("imagefolder", photos, resolution=16)) == sizes(before)


def test_val_beside_test_is_the_select_split(photos):
    write_images(photos / "test", {"cat": 2, "dog": 2})
    assert sizes(load_data("imagefolder", photos, resolution=16)) == (30, 7, 4)


def test_a_test_folder_without_classes_is_left_alone(photos, caplog):
    (photos / "test").mkdir()
    Image.new("RGB", (8, 8)).save(photos / "test" / "1.png")
    assert sizes(load_data("imagefolder", photos, resolution=16)) == (27, 3, 7)
    assert "has no class folders and is left alone" in caplog.text


@pytest.mark.parametrize("folder", [".", "train"])
def test_a_fifth_becomes_the_test_split_where_there_is_none(tmp_path, folder):
    write_images(tmp_path / folder, {"cat": 10, "dog": 20})
    first, second = (load_data("imagefolder", tmp_path, resolution=8, seed=s) for s in (0, 1))
    assert sizes(first) == (21, 3, 6)
    paths = [[part.path(i) for i in range(6)] for part in (first.test, second.test)]
    assert paths[0] == paths[1]


def test_the_hash_knows_names_labels_and_split_but_not_where_they_lie(photos, tmp_path_factory):
    first = load_data("imagefolder", photos, resolution=16)
    assert load_data("imagefolder", photos, resolution=8).data_id == first.data_id
    assert load_data("imagefolder", photos, resolution=16, seed=1).data_id != first.data_id
    moved = tmp_path_factory.mktemp("other") / "moved"
    photos.rename(moved)
    assert load_data("imagefolder", moved, resolution=16).data_id == first.data_id
    (moved / "val" / "cat" / "000.png").rename(moved / "val" / "cat" / "new.png")
    assert load_data("imagefolder", moved, resolution=16).data_id != first.data_id


def test_adding_an_image_leaves_the_others_in_their_split(tmp_path):
    write_images(tmp_path, {"cat": 10, "dog": 20})
    before = load_data("imagefolder", tmp_path, resolution=8).test
    before = {before.path(i) for i in range(len(before))}
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "new.png")
    after = load_data("imagefolder", tmp_path, resolution=8).test
    after = {after.path(i) for i in range(len(after))}
    assert len(before & after) >= len(before) - 1


def test_augmentation_follows_the_seed_and_can_be_turned_off(photos):
    def epoch(augment):
        torch.manual_seed(0)
        splits = load_data("imagefolder", photos, resolution=8, augment=augment)
        return torch.cat([x for x, _ in DataLoader(splits.train, 8)])

    for augment in ("standard", "wide_crop"):
        assert torch.equal(epoch(augment), epoch(augment))
        assert not torch.equal(epoch(augment), epoch("none"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, r"path must be a folder with train/<class>/ and val/<class>/.* got None"),
        (lambda p: p / "nowhere", "nowhere, which is not a folder"),
        (lambda p: p, "got 0 class folders in"),
        (lambda p: write_images(p, {"cat": 3}) or p, "got 1 class folders"),
        (lambda p: write_images(p / "val", {"a": 3, "b": 3}) or p, "with val/ but no train/"),
    ],
)
def test_a_folder_of_another_layout_is_refused(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        load_data("imagefolder", make(tmp_path), resolution=8)


def test_an_empty_class_is_refused(photos):
    (photos / "train" / "emu").mkdir()
    (photos / "train" / "emu" / "readme.txt").write_text("soon")
    with pytest.raises(ValueError, match=r"every class must have images .* got none in 'emu' of"):
        load_data("imagefolder", photos, resolution=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: (p / "val" / "dog").rename(p / "val" / "fox"), "without 'dog' and with 'fox'"),
        (lambda p: (p / "val" / "emu").mkdir(), "the same 2 classes as train, got it with 'emu'"),
        (lambda p: (p / "train" / "emu").mkdir(), "got none in 'emu'"),
    ],
)
def test_classes_that_differ_between_train_and_val_are_refused(photos, change, message):
    change(photos)
    with pytest.raises(ValueError, match=message):
        load_data("imagefolder", photos, resolution=8)


def test_a_class_of_one_image_cannot_be_split(tmp_path):
    write_images(tmp_path, {"cat": 1, "dog": 5})
    with pytest.raises(
        ValueError, match=r"at least 2 images to hold some out for test, got fewer in 'cat' \(1\)"
    ):
        load_data("imagefolder", tmp_path, resolution=8)


def test_other_files_are_left_alone_and_mentioned(photos, caplog):
    (photos / "train" / "cat" / "notes.txt").write_text("")
    (photos / "train" / "cat" / "._000.png").write_text("")
    (photos / "train" / ".ipynb_checkpoints").mkdir()
    assert sizes(load_data("imagefolder", photos, resolution=8)) == (27, 3, 7)
    assert "1 files in" in caplog.text
    assert "train/cat/notes.txt" in caplog.text


def test_images_in_deeper_folders_belong_to_their_class(photos):
    write_images(photos / "train" / "cat", {"indoors": 10})
    assert sizes(load_data("imagefolder", photos, resolution=8)) == (36, 4, 7)


def test_the_shared_photos_of_24_classes_load(shared_data):
    splits = load_data("imagefolder", shared_data / "caltech24", resolution=64)
    assert sum(sizes(splits)[:2]) == 1691
    assert len(splits.test) == 570
    assert splits.num_classes == 24
    images, labels = next(iter(DataLoader(splits.train, 32, shuffle=True)))
    assert images.shape == (32, 3, 64, 64)
    assert labels.max() < 24
