"""Data sets that come with lists of their images."""

from __future__ import annotations

import json

import pytest

from mutualnet.data import load_data
from tests.fixtures import write_folders, write_food101, write_indoor67


@pytest.mark.parametrize(
    ("name", "write", "classes"),
    [
        ("food101", write_food101, ("apple_pie", "sushi", "waffles")),
        ("indoor67", write_indoor67, ("bakery", "gym", "museum")),
    ],
)
def test_the_lists_decide_what_is_for_training(name, write, classes, tmp_path):
    write(tmp_path)
    splits = load_data(name, tmp_path, resolution=16, select_share=0.34)
    assert splits.class_names == classes
    assert (len(splits.train), len(splits.select), len(splits.test)) == (12, 6, 6)
    for part, numbers in (("train", range(6)), ("select", range(6)), ("test", (6, 7))):
        split = getattr(splits, part)
        for index, label in enumerate(split.labels):
            path = split.path(index)
            assert path.parent.name == classes[label]
            assert int(path.stem) in numbers
    assert splits.train[0][0].shape == (3, 16, 16)
    again = load_data(name, tmp_path, resolution=16, select_share=0.34)
    assert again.data_id == splits.data_id


def test_imagenet_is_folders_of_classes(tmp_path):
    write_folders(tmp_path)
    splits = load_data("imagenet", tmp_path, resolution=16, select_share=0.34)
    assert splits.name == "imagenet"
    assert splits.class_names == ("n00000000", "n00000001", "n00000002")
    assert len(splits.test) == 6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("food101", r"the folder of Food-101 .*which has no meta/train\.json"),
        ("indoor67", r"the folder of MIT-67 .*which has no TrainImages\.txt"),
    ],
)
def test_a_folder_of_something_else_is_refused(name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_data(name, tmp_path, resolution=16)
    with pytest.raises(ValueError, match="got None"):
        load_data(name, None, resolution=16)


def test_lists_that_do_not_fit_the_images_are_refused(tmp_path):
    write_indoor67(tmp_path)
    (tmp_path / "Images" / "gym" / "2.jpg").unlink()
    with pytest.raises(ValueError, match=r"got 1 that are not there: Images/gym/2\.jpg"):
        load_data("indoor67", tmp_path, resolution=16)
    test = tmp_path / "TestImages.txt"
    (tmp_path / "Images" / "gym" / "2.jpg").touch()
    (tmp_path / "Images" / "pool").mkdir()
    (tmp_path / "Images" / "pool" / "1.jpg").touch()
    test.write_text(test.read_text() + "pool/1.jpg\n")
    with pytest.raises(ValueError, match="the test list has classes that train lacks: pool"):
        load_data("indoor67", tmp_path, resolution=16)
    write_food101(tmp_path)
    (tmp_path / "food-101" / "meta" / "test.json").write_text(json.dumps(["x"]))
    with pytest.raises(ValueError, match=r"test\.json must be JSON of classes and image names"):
        load_data("food101", tmp_path, resolution=16)
