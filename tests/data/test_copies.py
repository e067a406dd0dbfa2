"""Copies of train files in other splits are counted."""

from __future__ import annotations

import shutil

from mutualnet.data import copies, load_data
from mutualnet.data.copies import find_copies


def test_copies_of_train_files_in_other_splits_are_counted(photos, caplog):
    for part in ("train", "val"):
        for number, path in enumerate(sorted(photos.glob(f"{part}/*/*"))):
            path.write_bytes(path.read_bytes() + f"{part} {number}".encode())
    splits = load_data("imagefolder", photos, resolution=8)
    assert "content of train files" not in caplog.text
    copied = [splits.train.path(0), splits.train.path(1), splits.select.path(0)]
    for number, path in enumerate(copied):
        shutil.copy(path, photos / "val" / "dog" / f"new{number}.png")
    load_data("imagefolder", photos, resolution=8)
    assert "2 of 10 test files have the content of train files: val/dog/new0.png (" in caplog.text


def test_files_of_one_size_or_one_middle_are_not_copies(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    middle = bytes(10_000)
    train = [write("a", b"a" + middle + b"a"), write("b", b"b" * 10_002), write("e", b"")]
    same = write("c", b"a" + middle + b"a")
    others = [same, write("d", b"a" + middle + b"d"), write("f", b""), str(tmp_path / "gone")]
    assert find_copies(train, others) == [(same, train[0])]
    assert find_copies(others, train) == [(train[0], same)]


def test_of_large_data_sets_some_classes_are_looked_at(photos, caplog, monkeypatch):
    for name in ("cat", "dog"):
        shutil.copytree(photos / "train" / name, photos / "val" / name, dirs_exist_ok=True)
    monkeypatch.setattr(copies, "MOST_FILES", 20)
    load_data("imagefolder", photos, resolution=8)
    assert "test files of 1 classes, others were not looked at, have the content" in caplog.text
