"""Frames of video files: chosen by time, decoded once, whatever the file is like."""

from __future__ import annotations

import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from mutualnet import video_files
from mutualnet.video_files import FrameTimes, read_frames, upright_frames
from tests.videos import grey_frames, hide_end, numbers_of, trim, turn, write_sound, write_video

FORMATS = pytest.mark.parametrize("ending", [".mp4", ".avi", ".webm"])


def times_of(path):
    """When the frames of a file are shown."""
    found = []
    read_frames(path, lambda times: found.append(times) or [0])
    return found[0]


@FORMATS
def test_chosen_frames_come_in_the_order_asked_for(tmp_path, ending):
    path = write_video(tmp_path / f"a{ending}", grey_frames(20))
    read = read_frames(path, lambda times: [17, 2, 9, 2, 0])
    assert numbers_of(read.frames) == [17, 2, 9, 2, 0]
    assert read.frames[1] is read.frames[3]
    assert read.frames[0].dtype == np.uint8
    assert read.frames[0].shape == (32, 48, 3)
    assert read.problem is None


@FORMATS
def test_times_are_those_of_the_file(tmp_path, ending):
    times = times_of(write_video(tmp_path / f"a{ending}", grey_frames(20), rate=10))
    np.testing.assert_allclose(times.seconds, np.arange(20) / 10, atol=2e-3)
    assert times.duration == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("first", [0, 31, 47])
def test_a_part_of_a_long_video_is_what_decoding_all_of_it_gives(tmp_path, first):
    """Frames refer to later ones, and to key frames that are seldom."""
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, (32, 48, 3), dtype=np.uint8) for _ in range(50)]
    options = {"bf": "3", "g": "12", "x264-params": "scenecut=0"}
    path = write_video(tmp_path / "a.mp4", pixels, options=options)
    with av.open(str(path)) as container:
        everything = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(everything) == 50
    part = read_frames(path, lambda times: range(first, first + 3)).frames
    for found, expected in zip(part, everything[first : first + 3], strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [
        (".mp4", "libx265", {"g": "12", "x265-params": "log-level=none"}),
        (".avi", "mpeg4", {"g": "12", "bf": "2"}),
        (".mpg", "mpeg2video", {"g": "12", "bf": "2"}),
        (".mp4", "libx264", {"x264-params": "open-gop=1:keyint=12:bframes=3:scenecut=0"}),
    ],
)
def test_a_clip_may_start_where_seeking_lands_behind_it(tmp_path, ending, codec, options):
    """In open groups of pictures, and in formats that seek by the order of decoding."""
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, (96, 128, 3), dtype=np.uint8) for _ in range(40)]
    path = write_video(tmp_path / f"a{ending}", pixels, codec=codec, options=options)
    everything = read_frames(path, lambda times: range(len(times.seconds))).frames
    for first in range(1, len(everything) - 3):
        clip = range(first, first + 4)
        read = read_frames(path, lambda times, clip=clip: clip)
        assert read.problem is None, first
        for found, number in zip(read.frames, clip, strict=True):
            np.testing.assert_array_equal(found, everything[number])


def two_frames_in_a_packet(path, out):
    """Write an MPEG-4 video as DivX does into AVI: a frame that refers to a later one behind it."""

    def reads_later(packet):
        return packet[packet.index(b"\x00\x00\x01\xb6") + 4] >> 6 == 2

    with av.open(str(path)) as source:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
    head, _, rest = packets[0].partition(b"\x00\x00\x01\xb2")
    packets[0] = head + b"\x00\x00\x01\xb2DivX503b1393p" + rest[rest.index(b"\x00\x00\x01") :]
    joined = []
    for packet in packets:
        if reads_later(packet):
            joined[-1] += packet
            packet = b"\x00\x00\x01\xb6\x51\x80\x7f"  # no frame: it has been shown
        joined.append(packet)
    with av.open(str(out), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number, content in enumerate(joined):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            packet.pts = packet.dts = number
            container.mux(packet)
    return out


@pytest.mark.parametrize("kind", ["H.264", "DivX"])
def test_avi_files_tell_only_the_order_of_decoding(tmp_path, kind):
    if kind == "H.264":
        path = write_video(tmp_path / "a.avi", grey_frames(24, 96, 128), codec="libx264")
    else:
        options = {"g": "12", "bf": "1"}
        plain = write_video(tmp_path / "plain.avi", grey_frames(24), options=options)
        path = two_frames_in_a_packet(plain, tmp_path / "a.avi")
    read = read_frames(path, lambda times: range(24))
    assert numbers_of(read.frames) == list(range(24))
    assert read.problem is None
    assert numbers_of(read_frames(path, lambda times: [14]).frames) == [14]
    shown = [seconds for seconds, _ in upright_frames(path)]
    np.testing.assert_allclose(shown, np.arange(24) / 10)


@pytest.mark.parametrize("ending", [".mkv", ".webm", ".mp4"])
def test_a_file_whose_times_begin_late_is_whole(tmp_path, ending):
    codec = "libvpx" if ending == ".webm" else "libx264"
    times = [5000 + 100 * n for n in range(20)]
    path = write_video(tmp_path / f"a{ending}", grey_frames(20), milliseconds=times, codec=codec)
    read = read_frames(path, lambda times: [0, 19])
    assert read.problem is None
    assert numbers_of(read.frames) == [0, 19]


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_frames_that_are_not_evenly_spaced_are_chosen_by_time(tmp_path, ending):
    milliseconds = [0, 100, 150, 1000, 1040, 1500]
    path = write_video(tmp_path / f"a{ending}", grey_frames(6), milliseconds=milliseconds)
    times = times_of(path)
    np.testing.assert_allclose(times.seconds, np.array(milliseconds) / 1000, atol=1e-3)
    read = read_frames(path, lambda t: t.shown_at([0.0, 0.5, 0.999, 1.2, 9.0]))
    assert numbers_of(read.frames) == [0, 2, 3, 4, 5]


def test_a_moment_shows_the_last_frame_that_has_begun():
    times = FrameTimes(np.array([0.0, 0.5, 1.0]), 1.5)
    assert times.shown_at([-1, 0, 0.4, 0.4995, 0.5, 2]).tolist() == [0, 0, 0, 1, 1, 2]


def test_nothing_is_decoded_twice(tmp_path, monkeypatch):
    decoded = []

    def counting(*arguments):
        for frame in frames(*arguments):
            decoded.append(frame.pts)
            yield frame

    frames = video_files._frames
    monkeypatch.setattr(video_files, "_frames", counting)
    path = write_video(tmp_path / "a.mp4", grey_frames(20))
    read_frames(path, lambda times: np.tile(np.arange(20), 10))
    assert len(decoded) == len(set(decoded)) == 20


@pytest.mark.parametrize("first", [4, 20])
def test_a_file_trimmed_without_loss_has_the_frames_that_are_shown(tmp_path, first):
    whole = write_video(tmp_path / "whole.mp4", grey_frames(25), options={"g": "300"})
    path = trim(whole, tmp_path / "cut.mp4", first / 10)
    with av.open(str(path)) as container:
        assert sum(packet.is_discard for packet in container.demux(video=0)) == first
    read = read_frames(path, lambda times: range(len(times.seconds)))
    assert numbers_of(read.frames) == list(range(first, 25))
    assert read.problem is None
    assert times_of(path).duration == pytest.approx((25 - first) / 10, abs=0.01)
    assert numbers_of(read_frames(path, lambda times: [2]).frames) == [first + 2]


def test_a_file_whose_end_is_hidden_is_whole(tmp_path):
    path = write_video(tmp_path / "a.mp4", grey_frames(24), options={"g": "4"})
    hide_end(path, 0.5)
    read = read_frames(path, lambda times: range(len(times.seconds)))
    assert numbers_of(read.frames) == list(range(12))
    assert read.problem is None


def test_chosen_frames_are_prepared_once_as_they_come(tmp_path):
    path = write_video(tmp_path / "a.mp4", grey_frames(12))
    prepared = []

    def mean(pixels):
        prepared.append(pixels.shape)
        return pixels.mean((0, 1))

    read = read_frames(path, lambda times: [7, 3, 7], mean)
    assert numbers_of(read.frames) == [7, 3, 7]
    assert prepared == [(32, 48, 3)] * 2


def test_a_name_may_hold_a_colon(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", grey_frames(4)).rename(tmp_path / "12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert numbers_of(read_frames("12:30.mp4", lambda times: [2]).frames) == [2]
    assert len(list(upright_frames("12:30.mp4"))) == 4


@FORMATS
def test_sound_is_ignored(tmp_path, ending):
    path = write_video(tmp_path / f"a{ending}", grey_frames(8), sound=True)
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == 1
    assert numbers_of(read_frames(path, lambda times: [7, 3]).frames) == [7, 3]


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_frames_are_upright(tmp_path, quarter_turns):
    frames = grey_frames(4)
    for frame in frames:
        frame[:16, :24] = 240
    path = write_video(tmp_path / "a.mp4", frames)
    turn(path, quarter_turns)
    read = read_frames(path, lambda times: [0]).frames[0]
    expected = np.rot90(frames[0], -quarter_turns)  # what players do, which is clockwise
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).mean() < 8


@pytest.mark.parametrize(
    ("ending", "options"), [(".avi", None), (".webm", None), (".mp4", {"movflags": "faststart"})]
)
def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path, ending, options):
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(40)]
    path = write_video(tmp_path / f"a{ending}", pixels, container_options=options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    read = read_frames(path, lambda times: [0, len(times.seconds) - 1])
    assert len(read.frames) == 2
    assert read.problem.startswith("it ends after ")
    assert 10 < len(times_of(path).seconds) < 30


def test_a_damaged_frame_is_replaced_and_told(tmp_path):
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(10)]
    path = write_video(tmp_path / "a.avi", pixels, options={"g": "1"})
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    for position, size in (packets[4], packets[5]):
        content[position + 8 : position + size - 8] = bytes(size - 16)
    path.write_bytes(content)
    read = read_frames(path, lambda times: range(10))
    assert read.problem == "2 of 10 frames cannot be decoded"
    assert read.frames[4] is read.frames[3]
    assert read.frames[5] is read.frames[3]
    assert read.frames[6] is not read.frames[3]
    with pytest.raises(ValueError, match="2 of 3 chosen frames cannot be decoded"):
        read_frames(path, lambda times: [4, 5, 6])


def test_all_frames_have_the_size_of_the_first(tmp_path):
    """Recordings of calls change their size on the way."""
    small = write_video(tmp_path / "a.ts", grey_frames(6, 32, 48))
    large = write_video(tmp_path / "b.ts", grey_frames(6, 64, 64))
    path = tmp_path / "c.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    frames = read_frames(path, lambda times: range(len(times.seconds))).frames
    assert len(frames) == 12
    assert {frame.shape for frame in frames} == {(32, 48, 3)}
    assert numbers_of(frames) == [*range(6), *range(6)]
    assert {pixels.shape for _, pixels in upright_frames(path)} == {(32, 48, 3)}


def hostile(path, kind):
    if kind == "text":
        path.write_text("not a video")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "one frame":
        write_video(path, grey_frames(1))
    elif kind == "image":
        Image.new("RGB", (32, 32)).save(path, format="PNG")
    elif kind == "sound":
        with av.open(str(path), "w") as container:
            write_sound(container, container.add_stream("aac", 48000))
    elif kind == "cut off header":
        write_video(path, grey_frames(20))
        path.write_bytes(path.read_bytes()[:-400])
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", "Invalid data found"),
        ("empty", "Invalid data found"),
        ("nothing", "No such file"),
        ("one frame", r"at least 2 frames, got 1: is it an image\?"),
        ("image", r"at least 2 frames, got 1: is it an image\?"),
        ("sound", "no pictures, only sound or data"),
        ("cut off header", "the file is cut off before anything can be read"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path, kind, reason):
    path = hostile(tmp_path / "a.mp4", kind)
    with pytest.raises(ValueError, match=reason) as caught:
        read_frames(path, lambda times: [0])
    assert "\n" not in str(caught.value)


def test_the_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"videos need PyAV.* pip install 'mutualnet\[video\]'"):
        read_frames(tmp_path / "a.mp4", lambda times: [0])
