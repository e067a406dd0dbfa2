"""Write a video once more, with a change of each of its frames."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from mutualnet.video_files import require_av, upright_frames

_CODECS = {
    ".mp4": "libx264",
    ".mov": "libx264",
    ".m4v": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx",
    ".avi": "mpeg4",
}
"""What is written, by the ending of the file's name."""
_EVERYWHERE = "mpeg4"
"""What every build of FFmpeg can write into all of these but WebM."""
_UNIT = Fraction(1, 1000)
"""Of the times that are written, in seconds."""


def writable_name(name: str) -> str:
    """The name of a video, with another ending where its own cannot be written."""
    place = Path(name)
    return name if place.suffix.lower() in _CODECS else f"{place.stem}.mp4"


def check_video_name(out: Path) -> None:
    """Refuse a name that no video can be written to.

    Raises:
        ValueError: If its ending is none of a format that can be written, or PyAV is missing.
    """
    require_av()
    if out.suffix.lower() not in _CODECS:
        raise ValueError(
            f"a video's name must end in {', '.join(_CODECS)}, got {out.name}. Choose another -o."
        )


def rewrite_video(
    path: str | os.PathLike[str], out: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    """Write a video's pictures, changed, at the times at which they are shown; without sound.

    The file gets its name when it is whole.

    Args:
        path: The video.
        out: The file to write; its ending tells the format.
        change: Applied to each upright frame; the size stays.

    Raises:
        ValueError: If the video cannot be read, or the file not be written.
    """
    check_video_name(out)
    av = require_av()
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    try:
        with av.open(str(partial.absolute()), "w") as container:
            _write(av, container, _CODECS[out.suffix.lower()], path, change)
        partial.replace(out)
    except (OSError, av.error.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{out} must be a file that can be written, got {reason}") from None
    finally:
        with suppress(OSError):  # what is wrong has been said
            partial.unlink()


def _write(
    av: Any,
    container: Any,
    codec: str,
    path: str | os.PathLike[str],
    change: Callable[[Image.Image], Image.Image],
) -> None:
    stream, last = None, -1
    for seconds, pixels in upright_frames(path):
        image = change(Image.fromarray(pixels))
        # Codecs take even sides only; a side of one pixel gets a black one.
        width, height = (max(2, side // 2 * 2) for side in image.size)
        image = image.crop((0, 0, width, height))
        if stream is None:
            known = codec if codec in av.codecs_available else _EVERYWHERE
            stream = container.add_stream(known, rate=30)
            stream.width, stream.height, stream.pix_fmt = *image.size, "yuv420p"
            stream.time_base = stream.codec_context.time_base = _UNIT
            stream.bit_rate = max(400_000, 6 * image.width * image.height)
        frame = av.VideoFrame.from_image(image)
        last = max(last + 1, round(seconds / _UNIT))
        frame.pts, frame.time_base = last, _UNIT
        container.mux(stream.encode(frame))
    if stream is None:
        raise ValueError(f"{path} has no frame that can be decoded")
    container.mux(stream.encode())
