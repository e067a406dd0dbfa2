"""Links and special files below folders of classes; files that stand in two splits."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mutualnet.cli import main
from mutualnet.data import load_data
from tests.fixtures import write_images
from tests.refusals import the_one_line


def load(folder):
    return load_data("imagefolder", folder, resolution=8)


def sizes(splits):
    return len(splits.train), len(splits.select), len(splits.test)


@pytest.mark.parametrize(
    "names", [("Train", "Val"), ("TRAIN", "Test"), ("train", "Validation"), ("Train", "VALID")]
)
def test_splits_are_recognised_whatever_their_case(photos, names):
    for old, new in zip(("train", "val"), names, strict=True):
        (photos / old).rename(photos / new)
    splits = load(photos)
    assert sizes(splits) == (27, 3, 7)
    assert splits.class_names == ("cat", "dog")


def test_two_folders_for_one_split_are_refused(photos):
    shutil.copytree(photos / "val", photos / "Valid")
    with pytest.raises(ValueError, match=r"must have one val split, got Valid/ and val/"):
        load(photos)


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("train/cat/loop", "../../", r"train/cat/loop -> \.\./\.\./ leads out of it"),
        ("train/cat/again", "../cat", r"train/cat/again -> \.\./cat is a folder that contains"),
        ("train/cat/x.png", "../dog/000.png", r"x\.png -> \.\./dog/000\.png leads out of it"),
        ("train/cat/x.png", "../../val/cat/000.png", r"000\.png leads out of it"),
        ("train/cat/x.png", "x.png", r"x\.png -> x\.png is a loop"),
        ("train/cat/x.png", "gone.png", r"x\.png -> gone\.png leads nowhere"),
        ("train/cat/.x", "/", r"train/cat/\.x -> / leads out of it"),
        ("train/emu", "cat", r"train/cat is the same folder as .*train/emu -> cat"),
        ("train/emu", "../val/cat", r"must lie apart, but .*train/emu -> \.\./val/cat"),
        ("train/emu", "..", r"train/emu -> \.\. is a folder that contains"),
        ("train/emu", "/not/mounted", "train/emu -> /not/mounted leads nowhere"),
        ("val", "train", r"train is the same folder as .*val -> train"),
        ("val", "train/dog", r"train is a folder that contains .*val -> train/dog"),
        ("val", "/not/mounted", "val -> /not/mounted leads nowhere"),
    ],
)
def test_links_that_bring_other_images_in_are_refused_by_name(photos, link, target, message):
    if link == "val":
        shutil.rmtree(photos / "val")
    (photos / link).symlink_to(target)
    with pytest.raises(ValueError, match=message):
        load(photos)


def test_loops_of_two_links_are_refused(photos):
    write_images(photos / "train" / "cat", {"in": 1, "out": 1})
    (photos / "train/cat/in/more").symlink_to("../out")
    assert sizes(load(photos)) == (30, 3, 7)  # the image of out/ comes twice
    (photos / "train/cat/out/more").symlink_to("../in")
    with pytest.raises(ValueError, match="must not lead back"):
        load(photos)


def test_links_that_people_use_are_followed(photos, tmp_path_factory):
    before = load(photos).data_id
    disk = tmp_path_factory.mktemp("disk")
    (photos / "val").rename(disk / "val")
    (photos / "val").symlink_to(disk / "val")  # a split on another disk
    (photos / "train" / "cat").rename(disk / "cat")
    (photos / "train" / "cat").symlink_to(disk / "cat")  # a class on another disk
    (disk / "root").symlink_to(photos)  # the whole data set
    assert load(disk / "root").data_id == before
    (disk / "cat" / "again.png").symlink_to("000.png")  # an image of the same class
    assert sizes(load(photos)) == (28, 3, 7)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_refused_by_name(photos, kind):
    path = photos / "train" / "cat" / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
        with pytest.raises(ValueError, match=r"images must be files, but .*cat/x\.png is a pipe"):
            load(photos)
    else:
        path.symlink_to("/dev/zero")
        with pytest.raises(ValueError, match=r"cat/x\.png -> /dev/zero leads out"):
            load(photos)


def test_names_of_classes_that_are_not_utf8_are_refused(photos):
    Path(os.fsdecode(os.fsencode(photos / "train") + b"/caf\xe9")).mkdir()
    with pytest.raises(ValueError, match=r"names of classes must be UTF-8, got b'.*caf\\xe9'"):
        load(photos)


def test_a_folder_of_the_system_ends_with_one_line(tmp_path, capfd):
    out = str(tmp_path / "run")
    recipe = ("train", "imagefolder_mobilenet_v1", "--out", out)
    assert main([*recipe, "--data", "/proc/self"]) == 2
    assert "-> / is a folder that contains" in the_one_line(capfd.readouterr().err)


# --------------------------------------------------------------------------------------- copies
