"""Kinetics by tables, and by folders."""

from __future__ import annotations

import os
import shutil

import pytest

from mutualnet.data import load_data
from tests.videos import write_kinetics, write_video_folder

ARGUMENTS = {"resolution": 16, "num_frames": 2, "stride": 3, "num_clips": 1, "select_share": 0.25}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    write_kinetics(folder)
    return folder


@pytest.fixture
def kinetics(published, tmp_path):
    shutil.copytree(published, tmp_path / "k")
    return tmp_path / "k"


def test_tables_as_they_are_published(published):
    data = load_data("kinetics", published, **ARGUMENTS)
    assert data.name == "kinetics"
    assert data.class_names == ("action 0", "action 1", "action 2")
    assert [len(part) for part in (data.train, data.select, data.test)] == [9, 3, 6]
    assert data.test.path(2).match("videos/val/val-1-0_000010_000020.mp4")
    bright = [int(data.test[n][0].mean((1, 2, 3)).argmax()) for n in range(6)]
    assert bright == data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_tables_may_lie_in_annotations_and_be_called_validate(kinetics):
    (kinetics / "annotations").mkdir()
    (kinetics / "train.csv").rename(kinetics / "annotations" / "train.csv")
    (kinetics / "val.csv").rename(kinetics / "annotations" / "validate.csv")
    assert len(load_data("kinetics", kinetics, **ARGUMENTS).test) == 6


def test_a_video_may_lie_in_the_folders_of_two_splits(kinetics):
    name = "val-1-0_000010_000020.mp4"
    shutil.copy(kinetics / "videos/val" / name, kinetics / name)
    (kinetics / "val").mkdir()
    (kinetics / name).rename(kinetics / "val" / name)
    (kinetics / "train").mkdir()
    (kinetics / "train" / name).write_text("another")
    assert load_data("kinetics", kinetics, **ARGUMENTS).test.path(2) == kinetics / "val" / name


def test_a_pipe_is_no_video(kinetics):
    place = kinetics / "videos/train/train-0-1_000010_000020.mp4"
    place.unlink()
    os.mkfifo(place)
    data = load_data("kinetics", kinetics, **ARGUMENTS)
    assert len(data.train) + len(data.select) == 11


@pytest.mark.parametrize(("separator", "heading"), [(" ", ""), (",", ""), (",", "path,label\n")])
def test_tables_of_paths_and_labels(kinetics, separator, heading):
    for part, count in (("train", 4), ("val", 2)):
        lines = [
            f"videos/{part}/{part}-{label}-{n}_000010_000020.mp4{separator}{label}"
            for label in range(3)
            for n in range(count)
        ]
        (kinetics / f"{part}.csv").write_text(heading + "\n".join(lines) + "\n")
    data = load_data("kinetics", kinetics, **ARGUMENTS)
    assert data.class_names == ("0", "1", "2")
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    (kinetics / "classes.txt").write_text("swim\nrun\njump\n")
    assert load_data("kinetics", kinetics, **ARGUMENTS).class_names == ("swim", "run", "jump")
    (kinetics / "classes.txt").write_text("swim\nrun\n")
    with pytest.raises(ValueError, match="must name the classes 0 to 2, got 2 lines"):
        load_data("kinetics", kinetics, **ARGUMENTS)


def _write_paths(folder, start):
    """Tables of paths and labels, whose names begin with something."""
    for part, count in (("train", 4), ("val", 2)):
        lines = [
            f"{start}videos/{part}/{part}-{label}-{n}_000010_000020.mp4 {label}\n"
            for label in range(3)
            for n in range(count)
        ]
        (folder / f"{part}.csv").write_text("".join(lines))


def test_the_data_are_the_same_wherever_their_folder_lies(kinetics, tmp_path, caplog, monkeypatch):
    shutil.copy(
        kinetics / "videos/train/train-0-1_000010_000020.mp4",
        kinetics / "videos/val/val-1-1_000010_000020.mp4",
    )
    _write_paths(kinetics, "")
    expected = load_data("kinetics", kinetics, **ARGUMENTS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(kinetics)
    for start, folder in ((kinetics, kinetics), (kinetics, "k"), (kinetics, "link")):
        _write_paths(kinetics, f"{start}/")
        caplog.clear()
        data = load_data("kinetics", folder, **ARGUMENTS)
        assert data.data_id == expected.data_id
        assert "1 of 6 test files have the content of train files: videos/val" in caplog.text


def test_videos_may_lie_elsewhere(kinetics, tmp_path, caplog):
    tables = tmp_path / "tables"
    tables.mkdir()
    _write_paths(tables, f"{kinetics}/")
    data = load_data("kinetics", tables, **ARGUMENTS)
    assert data.test.path(2) == kinetics / "videos/val/val-1-0_000010_000020.mp4"
    assert "have the content of train files" not in caplog.text
    # Which files are held out goes by their names, the place of the folder among them.
    shutil.copy(data.train.path(0), kinetics / "videos/val/val-1-1_000010_000020.mp4")
    load_data("kinetics", tables, **ARGUMENTS)
    assert "1 of 6 test files have the content of train files: ../k/videos/val/" in caplog.text


def test_a_file_of_class_names_that_is_no_text_is_named(kinetics):
    _write_paths(kinetics, "")
    (kinetics / "classes.txt").write_bytes(b"swim\nr\xfcn\njump\n")
    with pytest.raises(ValueError, match=r"classes\.txt must be a list of class names .*utf-8"):
        load_data("kinetics", kinetics, **ARGUMENTS)


def test_without_tables_the_folders_are_the_classes(tmp_path):
    write_video_folder(tmp_path, train=4, val=1)
    data = load_data("kinetics", tmp_path, **ARGUMENTS)
    assert data.name == "kinetics"
    assert [len(part) for part in (data.train, data.select, data.test)] == [9, 3, 3]


def test_listed_videos_that_are_missing_are_counted(kinetics, caplog):
    (kinetics / "videos/train/train-0-1_000010_000020.mp4").unlink()
    data = load_data("kinetics", kinetics, **ARGUMENTS)
    assert len(data.train) + len(data.select) == 11
    assert "1 of 12 listed train videos are not in" in caplog.text
    assert "train-0-1_000010_000020" in caplog.text
    shutil.rmtree(kinetics / "videos/val")
    with pytest.raises(ValueError, match=r"got none of the 6 of test in .*: val-0-0_000010"):
        load_data("kinetics", kinetics, **ARGUMENTS)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "path must be a folder with train.csv and val.csv .* with train.csv alone"),
        ("", "got none of the 0"),
        ("hello\n", "lines of a video and its class, got 'hello' in line 1"),
        ("label,youtube_id,time_start,time_end\nrun,abc,x,20\n", "whole numbers of seconds"),
        ("label,youtube_id,time_start,time_end\nrun,abc,0,inf\n", "whole numbers of seconds"),
        ("label,youtube_id,time_start,time_end\nrun,abc,0,1e400\n", "whole numbers of seconds"),
        (f"label,path\nrun,{'x' * 140_000}.mp4\n", "must be a table of videos .field larger"),
        (f"{'x' * 140_000}.mp4 run\n", "must be a table of videos .field larger"),
        (f"label,path\nrun,{'x' * 300}.mp4\n", "got none of the 1 of test"),
        ("label,youtube_id,time_start,time_end\nrun,abc\n", "4 columns, got 2 in line 2"),
        (
            "label,youtube_id,time_start,time_end\nfly,val-0-0,10,20\n",
            "has classes that train lacks: fly",
        ),
    ],
)
def test_tables_that_cannot_be_read_are_refused(kinetics, table, message):
    place = kinetics / "val.csv"
    place.unlink() if table is None else place.write_text(table)
    with pytest.raises(ValueError, match=message):
        load_data("kinetics", kinetics, **ARGUMENTS)


def test_a_folder_is_needed(tmp_path):
    for path in (None, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="path must be a folder"):
            load_data("kinetics", path, **ARGUMENTS)
