"""Decode chosen frames of a video file, each once, as upright 8-bit RGB images."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

EXTENSIONS = (
    ".mp4",
    ".avi",
    ".webm",
    ".mkv",
    ".mov",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".3gp",
    ".ogv",
)
"""Endings of videos' names, in small letters."""
LEAST_FRAMES = 2
"""Of a file that counts as a video: a still image shows no motion."""
_SHORT_BY_SHARE, _SHORT_BY_SECONDS = 0.1, 0.5
"""By how much a file must end before its header says to count as cut off. A few frames may be
missing in sound ones: AVI leaves out those that repeat the one before."""
_MOST_LOST_SHARE = 0.5
"""Share of the chosen frames that may stand for others because they cannot be decoded."""
_STEP_BACK = 12
"""Frames to seek back at first where seeking landed behind what was wanted; then fourfold."""


@dataclass(frozen=True)
class FrameTimes:
    """When the frames of a video are shown."""

    seconds: np.ndarray
    """(T) ascending, the first is 0. They need not be evenly spaced."""
    duration: float
    """Seconds until the last frame ends."""

    def shown_at(self, seconds: np.ndarray) -> np.ndarray:
        """Index of the frame that is on screen at each time; the last one from the end on."""
        # Formats round times to milliseconds.
        found = np.searchsorted(self.seconds, np.asarray(seconds) + 1e-3, side="right") - 1
        return found.clip(0, len(self.seconds) - 1)


@dataclass(frozen=True)
class VideoFrames:
    """What was read of a video file."""

    frames: list[np.ndarray]
    """uint8 (H, W, 3) each, or what was made of that; where an index was asked for twice, the same
    array."""
    problem: str | None
    """What is wrong with the file, though it could be read; None where nothing is."""


@dataclass(frozen=True)
class _Index:
    """What the packets of a file tell without being decoded."""

    times: FrameTimes
    stamps: list[int] | None
    """Of each frame, as decoded frames carry them; None where these do not tell the frames apart,
    or not rightly."""
    problem: str | None


def require_av() -> Any:
    """The library that decodes videos.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import av
    except ImportError:
        raise ValueError(
            "videos need PyAV, which is not installed: pip install 'mutualnet[video]'"
        ) from None
    return av


def read_frames(
    path: str | os.PathLike[str],
    choose: Callable[[FrameTimes], Sequence[int] | np.ndarray],
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
) -> VideoFrames:
    """Decode frames of a video file, none of them twice.

    The frames are counted without being decoded first, so that only those that are asked for, and
    what the decoder needs to get there, are. A chosen frame that is damaged is replaced by the one
    before it. Sound is ignored.

    Args:
        path: A file in any format that FFmpeg knows.
        choose: Which frames, by when all of them are shown: indices, in any order.
        prepare: What each chosen frame becomes as soon as it is decoded, where the frames as they
            are would need much memory; None to keep them.

    Raises:
        ValueError: If the file cannot be read or has fewer than two frames, or PyAV is missing.
    """
    av = require_av()
    try:
        index = _read_index(av, path)
        count = len(index.times.seconds)
        if count < LEAST_FRAMES:
            hint = ": is it an image?" if count else ""
            raise ValueError(f"a video must have at least {LEAST_FRAMES} frames, got {count}{hint}")
        chosen = [int(number) for number in choose(index.times)]
        found = _decode(av, path, index, set(chosen), prepare)
    except av.error.EOFError:
        raise ValueError("the file is cut off before anything can be read") from None
    except av.error.FFmpegError as error:
        raise ValueError(error.strerror or str(error)) from None
    lost = sum(number not in found for number in chosen)
    if not found or lost > _MOST_LOST_SHARE * len(chosen):
        raise ValueError(f"{lost} of {len(chosen)} chosen frames cannot be decoded")
    known = np.array(sorted(found))
    nearest = known[np.searchsorted(known, chosen, side="right").clip(1) - 1]
    problem = f"{lost} of {len(chosen)} frames cannot be decoded" if lost else None
    return VideoFrames([found[int(number)] for number in nearest], index.problem or problem)


def upright_frames(path: str | os.PathLike[str]) -> Iterator[tuple[float, np.ndarray]]:
    """All frames of a video that can be decoded, one after the other, each with its time.

    Args:
        path: A file in any format that FFmpeg knows.

    Yields:
        Seconds since the first frame, and uint8 (H, W, 3).

    Raises:
        ValueError: If the file cannot be read, or PyAV is missing.
    """
    av = require_av()
    from av.video.reformatter import VideoReformatter

    convert, first, size = VideoReformatter(), None, None
    try:
        index = _read_index(av, path)
        with _opened(av, path) as container:
            stream = _picture(container)
            rate = float(stream.average_rate or stream.guessed_rate or 30)
            for number, frame in enumerate(_frames(av, container, stream)):
                if index.stamps is None and number < len(index.times.seconds):
                    seconds = float(index.times.seconds[number])
                else:
                    seconds = number / rate if frame.time is None else frame.time
                first = seconds if first is None else first
                size = size or (frame.width, frame.height)
                yield seconds - first, _upright(frame, convert, size)
    except av.error.FFmpegError as error:
        raise ValueError(error.strerror or str(error)) from None


def _opened(av: Any, path: str | os.PathLike[str]) -> Any:
    """A file for reading; FFmpeg takes what stands before a colon for a protocol."""
    return av.open(str(Path(path).absolute()))


def _read_index(av: Any, path: str | os.PathLike[str]) -> _Index:
    """List the frames by their packets.

    Raises:
        ValueError: If there is no picture in the file.
    """
    with _opened(av, path) as container:
        stream = _picture(container)
        stamps, length = [], 0
        try:
            for packet in container.demux(stream):
                # Discarded: what the first frame of a trimmed file refers to, which is not shown.
                if packet.size and not packet.is_discard:
                    stamps.append(packet.dts if packet.pts is None else packet.pts)
                    length = packet.duration or length
        except av.error.FFmpegError:
            pass  # what the file has lost; its length tells below
        rate = float(stream.average_rate or stream.guessed_rate or 30)
        # Their headers count frames that an edit list hides; the length is without those.
        has_edits = "mov" in container.format.name.split(",")
        declared_frames, declared = stream.frames, _declared_seconds(container, stream)
        unit = float(stream.time_base or 0)
        has_later = container.format.name == "avi" and stream.codec_context.has_b_frames
    is_timed = bool(unit) and None not in stamps and len(set(stamps)) == len(stamps)
    # AVI tells the order of decoding alone. Where frames refer to later ones, FFmpeg finds the
    # order of H.264's only while it decodes them, and that of two frames in one packet (DivX).
    is_misleading = is_timed and has_later and stamps == sorted(stamps)
    if is_timed:
        stamps.sort()
        seconds = (np.array(stamps, dtype=np.float64) - (stamps[0] if stamps else 0)) * unit
    else:
        seconds = np.arange(len(stamps)) / rate
    last = length * unit if is_timed and length else 1 / rate
    end = (seconds[-1] if len(seconds) else 0.0) + last
    problem = None
    is_cut = declared is not None and end < (1 - _SHORT_BY_SHARE) * declared - _SHORT_BY_SECONDS
    if not has_edits and len(stamps) < (1 - _SHORT_BY_SHARE) * declared_frames:
        problem = f"it ends after {len(stamps)} of {declared_frames} frames"
    elif is_cut:
        problem = f"it ends after {end:.1f} of {declared:.1f} s"
    by = stamps if is_timed and not is_misleading else None
    return _Index(FrameTimes(seconds, float(end)), by, problem)


def _picture(container: Any) -> Any:
    if not container.streams.video:
        raise ValueError("no pictures, only sound or data")
    stream = container.streams.video[0]
    # Those who read many files do so in processes of their own.
    stream.codec_context.thread_count = 1
    return stream


def _declared_seconds(container: Any, stream: Any) -> float | None:
    """How long the pictures last by the file's header, if it says so."""
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        # Matroska counts from 0, wherever its first frame is.
        counts_start = "matroska" in container.format.name.split(",")
        start = max(0, container.start_time or 0) if counts_start else 0
        return (container.duration - start) / 1e6
    return None


def _decode(
    av: Any,
    path: str | os.PathLike[str],
    index: _Index,
    wanted: set[int],
    prepare: Callable[[np.ndarray], np.ndarray] | None,
) -> dict[int, np.ndarray]:
    """The wanted frames that can be had, prepared."""
    found: dict[int, np.ndarray] = {}
    if index.stamps is not None:
        found = _collect(_frames_from(av, path, index.stamps, min(wanted)), wanted, prepare)
    if not found:
        # Stamps of packets and frames differ in odd files: go by the frames' number.
        found = _collect(enumerate(_decode_all(av, path)), wanted, prepare)
    return found


def _collect(
    frames: Iterator[tuple[int, Any]],
    wanted: set[int],
    prepare: Callable[[np.ndarray], np.ndarray] | None,
) -> dict[int, np.ndarray]:
    from av.video.reformatter import VideoReformatter

    convert, found, last, size = VideoReformatter(), {}, max(wanted), None
    for number, frame in frames:
        size = size or (frame.width, frame.height)
        if number in wanted and number not in found:
            pixels = _upright(frame, convert, size)
            found[number] = pixels if prepare is None else prepare(pixels)
        if number >= last:
            break
    return found


def _upright(frame: Any, convert: Any, size: tuple[int, int]) -> np.ndarray:
    """The pixels (H, W, 3) of a decoded frame, as the camera was held.

    Args:
        frame: Of any size, which may change in a file.
        convert: To convert all frames of the file by.
        size: Width and height, in pixels, of the first of them.
    """
    # One thread: starting more takes longer than the work.
    width, height = size
    pixels = convert.reformat(frame, width, height, format="rgb24", threads=1).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _frames_from(
    av: Any, path: str | os.PathLike[str], stamps: list[int], first: int
) -> Iterator[tuple[int, Any]]:
    """Frames with their numbers, as far as they can be had, from one at or before the first on."""
    back = 0
    while True:
        start = max(0, first - back)
        frames = _decode_after_seek(av, path, stamps, start)
        landed = next(frames, None)
        if start == 0 or (landed is not None and landed[0] <= first):
            return chain(() if landed is None else (landed,), frames)
        # Behind it: the frames before a key frame in an open group need the group before them, and
        # some formats seek by the order of decoding.
        frames.close()
        back = 4 * back or _STEP_BACK


def _decode_after_seek(
    av: Any, path: str | os.PathLike[str], stamps: list[int], start: int
) -> Generator[tuple[int, Any], None, None]:
    """Frames with their numbers, from where seeking a frame lands."""
    numbers = {stamp: number for number, stamp in enumerate(stamps)}
    with _opened(av, path) as container:
        stream = _picture(container)
        if start:
            try:
                container.seek(stamps[start], stream=stream)
            except av.error.FFmpegError:
                return  # the file cannot be sought in
        for frame in _frames(av, container, stream):
            if frame.pts in numbers:
                yield numbers[frame.pts], frame


def _decode_all(av: Any, path: str | os.PathLike[str]) -> Iterator[Any]:
    with _opened(av, path) as container:
        yield from _frames(av, container, _picture(container))


def _frames(av: Any, container: Any, stream: Any) -> Iterator[Any]:
    """Frames in the order they are shown in, without those that are damaged."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                continue
    except av.error.FFmpegError:
        return
