"""Read the frames of a video that a network is shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mutualnet.clip_steps import ClipSampling
from mutualnet.video_files import VideoFrames, read_frames


def read_video(
    path: Path,
    sampling: ClipSampling,
    *,
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
    is_random: bool = False,
    is_strict: bool = True,
) -> VideoFrames:
    """Read the frames that a network is shown of a video file.

    Args:
        path: The file.
        sampling: Which frames.
        prepare: What each of them becomes as soon as it is decoded; None to keep it.
        is_random: One clip from anywhere, by torch's generator, rather than even ones.
        is_strict: Refuse a file that is cut off or damaged in part.

    Raises:
        ValueError: If the file cannot be read.
    """
    before = torch.get_rng_state()
    choose = sampling.even_clips
    if is_random:
        choose = partial(sampling.clip_at, float(torch.rand(())))
    try:
        read = read_frames(path, choose, prepare)
        if is_strict and read.problem is not None:
            raise ValueError(read.problem)
    except ValueError:
        # What takes the file's place must look as it does once the damage is known.
        torch.set_rng_state(before)
        raise
    return read
