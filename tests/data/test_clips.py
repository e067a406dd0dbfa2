"""Clips of videos: which frames, what becomes of them, and the splits of folders."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mutualnet.clip_steps import ClipSampling
from mutualnet.data import load_data
from mutualnet.data.clip_sampling import read_video
from mutualnet.data.clip_transforms import MEAN, STD, RandomClip, even_views, frame_transform
from mutualnet.video_files import FrameTimes, VideoFrames
from tests.videos import grey_frames, numbers_of, write_video, write_video_folder

ARGUMENTS = {"resolution": 16, "num_frames": 4, "stride": 3, "num_clips": 2}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video_folder(folder)
    return folder


def even_times(count, rate):
    return FrameTimes(np.arange(count) / rate, count / rate)


@pytest.mark.parametrize(("rate", "step"), [(30, 5), (60, 10), (15, 2.5), (29.97, 5)])
def test_a_clip_lasts_equally_long_at_any_frame_rate(rate, step):
    sampling = ClipSampling(num_frames=4, stride=5)
    found = sampling.clip_at(0.0, even_times(300, rate))
    assert found.tolist() == [int(n * step) for n in range(4)]


def test_even_clips_reach_from_the_first_frame_to_the_last():
    sampling = ClipSampling(num_frames=4, stride=2, num_clips=3)
    found = sampling.even_clips(even_times(108, 30)).reshape(3, 4)
    assert found.tolist() == [[0, 2, 4, 6], [50, 52, 54, 56], [100, 102, 104, 106]]


def test_one_clip_is_the_middle():
    sampling = ClipSampling(num_frames=4, stride=2, num_clips=1)
    assert sampling.even_clips(even_times(108, 30)).tolist() == [50, 52, 54, 56]


def test_a_short_video_repeats_its_last_frame():
    sampling = ClipSampling(num_frames=4, stride=2, num_clips=2)
    found = sampling.even_clips(even_times(4, 30))
    assert found.tolist() == [0, 2, 3, 3] * 2


def test_a_clip_follows_times_that_vary():
    times = FrameTimes(np.array([0.0, 0.05, 0.1, 1.0, 2.0]), 3.0)
    sampling = ClipSampling(num_frames=3, stride=30)
    assert sampling.clip_at(0.0, times).tolist() == [0, 3, 4]


def test_random_clips_begin_anywhere_and_by_torchs_generator(tmp_path):
    path = write_video(tmp_path / "a.mp4", grey_frames(24), rate=30)
    sampling = ClipSampling(num_frames=2, stride=4)
    starts = [numbers_of(read_video(path, sampling, is_random=True).frames)[0] for _ in range(40)]
    assert min(starts) <= 2
    assert max(starts) >= 14
    assert max(starts) <= 16
    torch.manual_seed(3)
    once = read_video(path, sampling, is_random=True).frames
    torch.manual_seed(3)
    again = read_video(path, sampling, is_random=True).frames
    assert numbers_of(once) == numbers_of(again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "num_frames must be a whole number >= 1, got 0"),
        ({"stride": 1.5}, "stride must be a whole number >= 1"),
        ({"num_clips": True}, "num_clips must be a whole number"),
        ({"num_crops": 2}, r"num_crops must be 1 \(the centre\) or 3, got 2"),
    ],
)
def test_counts_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClipSampling(**arguments)


def columns(count, height, width):
    """Frames whose pixels tell their column, red, their row, green, and the frame, blue."""
    frames = []
    for number in range(count):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[..., 0] = np.linspace(0, 255, width)[None, :]
        frame[..., 1] = np.linspace(0, 255, height)[:, None]
        frame[..., 2] = 20 * number
        frames.append(frame)
    return frames


def pixels_of(clip):
    """Values 0-255 of a normalised clip (C, T, H, W)."""
    mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in (MEAN, STD))
    return 255 * (clip * std + mean)


def test_train_clips_are_one_crop_of_all_frames():
    torch.manual_seed(0)
    frames = columns(5, 60, 80)
    mirrored, sides = 0, []
    for _ in range(60):
        clip = pixels_of(RandomClip(resolution=24)(VideoFrames(frames, None)))
        assert clip.shape == (3, 5, 24, 24)
        torch.testing.assert_close(clip[:2, 0], clip[:2, 4], atol=1e-3, rtol=0)
        np.testing.assert_allclose(clip[2, :, 0, 0], 20 * np.arange(5), atol=1)
        red, green = clip[0, 0, 0], clip[1, 0, :, 0]
        mirrored += bool(red[0] > red[-1])
        assert green[-1] > green[0]
        # One pixel of the result is this many pixels of the frame, in both directions.
        across = abs(float(red[-2] - red[1])) / 21 / 255 * 79
        down = float(green[-2] - green[1]) / 21 / 255 * 59
        assert across == pytest.approx(down, abs=0.1)
        sides.append(24 * down)
    assert 15 < mirrored < 45
    # The side of the crop: the short side, 60, over what is drawn between 256/224 and 320/224.
    assert min(sides) >= 41
    assert max(sides) <= 53.5
    assert max(sides) - min(sides) > 6


def views_of(frames, sampling):
    """What becomes of the frames of an evaluated video."""
    views = even_views(24, sampling)
    return views(VideoFrames([views.crops(frame) for frame in frames], None))


def test_views_are_clips_by_crops():
    sampling = ClipSampling(num_frames=2, stride=1, num_clips=2, num_crops=3)
    frames = columns(4, 60, 90)
    views = views_of(frames, sampling)
    assert views.shape == (6, 3, 2, 24, 24)
    for number, view in enumerate(views):
        clip = pixels_of(view)
        np.testing.assert_allclose(
            clip[2, :, 12, 12], 20 * (2 * (number // 3) + np.arange(2)), atol=1
        )
        middle = float(clip[0, 0, :, 11:13].mean()) / 255
        assert middle == pytest.approx((1 / 3, 1 / 2, 2 / 3)[number % 3], abs=0.02)


def test_tall_videos_are_cropped_from_top_to_bottom():
    sampling = ClipSampling(num_frames=1, stride=1, num_clips=1, num_crops=3)
    views = views_of(columns(1, 90, 60), sampling)
    rows = [float(pixels_of(view)[1, 0, 11:13].mean()) / 255 for view in views]
    assert rows == pytest.approx([1 / 3, 1 / 2, 2 / 3], abs=0.02)


def test_one_view_is_a_clip_and_its_frames_are_what_a_frame_goes_through():
    from PIL import Image

    sampling = ClipSampling(num_frames=3, stride=1, num_clips=1)
    frames = columns(3, 60, 80)
    clip = views_of(frames, sampling)
    assert clip.shape == (3, 3, 24, 24)
    for number in range(3):
        alone = frame_transform(24)(Image.fromarray(frames[number]))
        torch.testing.assert_close(clip[:, number], alone, rtol=0, atol=0)


def test_splits_of_a_folder(videos):
    data = load_data("video_folder", videos, select_share=0.25, **ARGUMENTS)
    assert data.task == "action_recognition"
    assert data.class_names == ("action0", "action1", "action2")
    assert [len(part) for part in (data.train, data.select, data.test)] == [9, 3, 6]
    clip, label = data.train[0]
    assert clip.shape == (3, 4, 16, 16)
    assert clip.dtype == torch.float32
    assert label == 0
    views, label = data.test[5]
    assert views.shape == (2, 3, 4, 16, 16)
    assert label == 2
    bright = [int(data.test[n][0].mean((0, 2, 3, 4)).argmax()) for n in range(6)]
    assert bright == data.test.labels.tolist()
    again = load_data("video_folder", videos, select_share=0.25, **ARGUMENTS)
    assert data.data_id == again.data_id


def test_a_key_decides_a_train_clip(videos):
    data = load_data("video_folder", videos, **ARGUMENTS)
    keys = np.array([7, 8, 7], dtype=np.uint64)
    first, other, same = (clip for clip, _ in data.train.fetch([2, 2, 2], keys))
    torch.testing.assert_close(first, same, rtol=0, atol=0)
    assert not torch.equal(first, other)


def test_evaluated_videos_are_cropped_frame_by_frame(videos):
    data = load_data("video_folder", videos, num_crops=3, **ARGUMENTS)
    for split in (data.select, data.test):
        kept = split.read(split.path(0)).frames
        assert {frame.shape for frame in kept} == {(3, 3, 16, 16)}


def test_without_augmentation_train_clips_are_the_middle_ones(videos):
    data = load_data("video_folder", videos, augment="none", **ARGUMENTS)
    torch.testing.assert_close(data.train[0][0], data.train[0][0], rtol=0, atol=0)


def test_damaged_videos_are_named_and_replaced_alike_before_and_after(tmp_path, caplog):
    write_video_folder(tmp_path, val=2)
    (tmp_path / "train" / "action1" / "2.mp4").write_text("not a video")
    data = load_data("video_folder", tmp_path, select_share=0, select_from="test", **ARGUMENTS)
    keys = np.array([5], dtype=np.uint64)
    damaged = next(i for i in range(12) if data.train.path(i).match("action1/2.mp4"))
    ((before, label),) = data.train.fetch([damaged], keys)
    assert "damaged clip" in caplog.text
    assert "action1/2.mp4" in caplog.text
    assert "Invalid data" in caplog.text
    assert label == 1
    ((after, _),) = data.train.fetch([damaged], keys)
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    (tmp_path / "train" / "action1" / "0.mp4").write_text("not one either")
    data = load_data("video_folder", tmp_path, select_share=0, select_from="test", **ARGUMENTS)
    with pytest.raises(ValueError, match="at most 1 of the 12 train clips may be damaged"):
        [data.train[i] for i in range(12)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"augment": "wide_crop"}, "augment must be one of standard, none"),
        ({"policy": "autoaugment"}, "policy and cutout are for images"),
        ({"cutout": 3}, "policy and cutout are for images"),
        ({"num_crops": 5}, "num_crops must be 1"),
        ({"max_damaged_share": 2}, r"max_damaged_share must be in \[0, 1\)"),
    ],
)
def test_what_is_not_for_clips_is_refused(videos, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_data("video_folder", videos, **(ARGUMENTS | arguments))


def test_folders_without_videos_are_refused(photos):
    with pytest.raises(
        ValueError, match=r"every class must have videos \(.mp4, .*got none in 'cat'"
    ):
        load_data("video_folder", photos, **ARGUMENTS)


def test_the_missing_library_is_named(videos, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"pip install 'mutualnet\[video\]'"):
        load_data("video_folder", videos, **ARGUMENTS)


def test_real_videos(shared_data):
    folder = shared_data / "ucf6"
    data = load_data("video_folder", folder, resolution=32, num_frames=4, stride=8, num_clips=3)
    assert [len(part) for part in (data.train, data.select, data.test)] == [390, 42, 96]
    views, label = data.test[40]
    assert views.shape == (3, 3, 4, 32, 32)
    assert data.class_names[label] == "HorseRace"
    assert 0.3 < float(views.std()) < 3
