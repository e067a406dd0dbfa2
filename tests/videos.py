"""Small generated videos, and data sets of them in the layouts of the real ones."""

from __future__ import annotations

import csv
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

CODECS = {".mp4": "libx264", ".avi": "mpeg4", ".webm": "libvpx", ".ts": "libx264"}


def grey_frames(count: int, height: int = 32, width: int = 48) -> list[np.ndarray]:
    """Frames of one grey each that tells their number, 10 steps apart."""
    return [np.full((height, width, 3), 10 * i % 250, dtype=np.uint8) for i in range(count)]


def numbers_of(frames: Sequence[np.ndarray]) -> list[int]:
    """The numbers that grey frames tell."""
    return [round(float(frame.mean()) / 10) for frame in frames]


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    rate: int = 10,
    milliseconds: Sequence[int] | None = None,
    sound: bool = False,
    codec: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write frames (H, W, 3) at a rate, or at the given times."""
    codec = codec or CODECS[path.suffix]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 1_000_000
        unit = Fraction(1, 1000 if milliseconds else rate)
        stream.time_base = stream.codec_context.time_base = unit
        audio: Any = (
            container.add_stream("libopus" if path.suffix == ".webm" else "aac", 48000)
            if (sound)
            else None
        )
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = milliseconds[number] if milliseconds else number
            frame.time_base = unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            write_sound(container, audio)
    return path


def trim(path: Path, out: Path, seconds: float) -> Path:
    """Cut the start off without encoding anew, as `ffmpeg -ss 1 -i in.mp4 -c copy out.mp4` does.

    The packets since the key frame stay in the file, and an edit list says where to start.
    """
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        shift = round(seconds / stream.time_base)
        for packet in source.demux(stream):
            if packet.size:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copy
                target.mux(packet)
    return out


def hide_end(path: Path, share: float) -> None:
    """Let the edit list of an mp4 show only a share of it, from its start on."""
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 4 + 8
    (length,) = struct.unpack_from(">I", content, at)
    struct.pack_into(">I", content, at, round(share * length))
    path.write_bytes(content)


def write_sound(container: Any, stream: Any) -> None:
    """A second of silence."""
    samples = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), "flt", "mono")
    samples.sample_rate = 48000
    container.mux(stream.encode(samples))
    container.mux(stream.encode())


def turn(path: Path, quarter_turns: int) -> None:
    """Let the header of an mp4 say that the camera was held at an angle, as phones do."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter_turns % 4]
    one = 1 << 16
    matrix = (cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30)
    content[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)


def write_class_video(path: Path, label: int, seed: int, count: int = 12) -> Path:
    """Noise in which the class's channel is bright."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 60, (count, 36, 48, 3))
    frames[..., label % 3] += 120
    return write_video(path, frames.astype(np.uint8), options={"preset": "ultrafast"})


def write_video_folder(folder: Path, train: int = 4, val: int = 2, classes: int = 3) -> None:
    """`train/<class>/*.mp4` and `val/<class>/*.mp4`."""
    for part, count in (("train", train), ("val", val)):
        for label in range(classes):
            for number in range(count):
                seed = 100 * label + number + (50 if part == "val" else 0)
                write_class_video(folder / part / f"action{label}" / f"{number}.mp4", label, seed)


def write_kinetics(folder: Path, train: int = 4, val: int = 2, classes: int = 3) -> None:
    """`train.csv` and `val.csv` as they are published, and their videos below `videos/`."""
    for part, count in (("train", train), ("val", val)):
        rows = []
        for label in range(classes):
            for number in range(count):
                seed = 100 * label + number + (50 if part == "val" else 0)
                name = f"{part}-{label}-{number}"
                write_class_video(
                    folder / "videos" / part / f"{name}_000010_000020.mp4", label, seed
                )
                rows.append([f"action {label}", name, "10", "20", part])
        with (folder / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
            writer.writerows(rows)
