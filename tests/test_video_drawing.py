"""Videos written once more, with something drawn on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ImageOps

from mutualnet.video_drawing import rewrite_video, writable_name
from mutualnet.video_files import read_frames
from tests.videos import grey_frames, turn, write_video


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".webm", ".mkv"])
def test_frames_are_changed_and_shown_at_their_times(tmp_path, ending):
    milliseconds = [0, 100, 150, 1000, 1040, 1500]
    path = write_video(tmp_path / "a.mp4", grey_frames(6, 64, 64), milliseconds=milliseconds)
    out = tmp_path / f"out{ending}"
    rewrite_video(path, out, ImageOps.invert)
    times = []
    read = read_frames(out, lambda found: times.append(found) or range(6))
    assert [round((255 - f.mean()) / 10) for f in read.frames] == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(times[0].seconds, np.array(milliseconds) / 1000, atol=0.05)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.mp4", out.name])


def test_odd_sides_lose_a_pixel_and_frames_are_upright(tmp_path):
    path = write_video(tmp_path / "a.mp4", grey_frames(3, 64, 48))
    turn(path, 1)
    seen = []
    rewrite_video(path, tmp_path / "b.mp4", lambda image: seen.append(image.size) or image)
    assert seen == [(64, 48)] * 3
    rewrite_video(path, tmp_path / "b.mp4", lambda image: image.crop((0, 0, 33, 37)))
    assert read_frames(tmp_path / "b.mp4", lambda times: [0]).frames[0].shape == (36, 32, 3)
    rewrite_video(path, tmp_path / "b.mp4", lambda image: image.crop((0, 0, 1, 37)))
    assert read_frames(tmp_path / "b.mp4", lambda times: [0]).frames[0].shape == (36, 2, 3)


@pytest.mark.parametrize("name", ["out.txt", "out.png", "out"])
def test_names_of_other_files_are_refused(tmp_path, name):
    path = write_video(tmp_path / "a.mp4", grey_frames(3))
    with pytest.raises(ValueError, match=r"a video's name must end in \.mp4, .*got out"):
        rewrite_video(path, tmp_path / name, lambda image: image)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    path = write_video(tmp_path / "a.mp4", grey_frames(3))
    with pytest.raises(ValueError, match="must be a file that can be written, got No such file"):
        rewrite_video(path, tmp_path / "nowhere" / "b.mp4", lambda image: image)


def test_a_mistake_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.mp4").write_text("not a video")
    with pytest.raises(ValueError, match="Invalid data"):
        rewrite_video(tmp_path / "a.mp4", tmp_path / "b.mp4", lambda image: image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.mp4", "a.mp4"), ("b.AVI", "b.AVI"), ("c.wmv", "c.mp4"), ("d.e.flv", "d.e.mp4")],
)
def test_a_name_that_cannot_be_written_gets_another_ending(name, expected):
    assert writable_name(name) == expected


def test_a_place_below_a_file_is_named(tmp_path):
    video = write_video(tmp_path / "a.mp4", grey_frames(4))
    with pytest.raises(ValueError, match=r"a\.mp4/b\.mp4 must be a file that can be written"):
        rewrite_video(video, video / "b.mp4", ImageOps.invert)


def test_the_name_of_a_drawn_video_may_hold_a_colon(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", grey_frames(4))
    monkeypatch.chdir(tmp_path)
    rewrite_video("a.mp4", Path("12:30.mp4"), ImageOps.invert)
    assert (tmp_path / "12:30.mp4").stat().st_size > 0
