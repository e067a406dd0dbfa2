"""Which frames of a video a network is shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mutualnet.video_files import FrameTimes, VideoFrames, read_frames

FRAME_RATE = 30
"""Frames per second that strides are counted at, whatever the rate of a file."""


@dataclass(frozen=True, kw_only=True)
class ClipSampling:
    """Frames of a video, chosen by time.

    A clip lasts equally long at any frame rate, also at one that varies: its n-th frame is what is
    on screen n strides after the first. Where a video is too short its last frame is repeated.

    Raises:
        ValueError: If a count is below 1, or the crops are neither 1 nor 3.
    """

    num_frames: int = 16
    """T of a clip."""
    stride: int = 5
    """From one frame to the next, in thirtieths of a second."""
    num_clips: int = 10
    """Clips of a video that is evaluated, spread evenly over it."""
    num_crops: int = 1
    """1 looks at the centre of each of these clips, 3 at both ends of the long side too."""

    def __post_init__(self) -> None:
        for name in ("num_frames", "stride", "num_clips"):
            value = getattr(self, name)
            if isinstance(value, bool) or value != int(value) or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {value}")
        if self.num_crops not in (1, 3):
            raise ValueError(f"num_crops must be 1 (the centre) or 3, got {self.num_crops}")

    @property
    def num_views(self) -> int:
        """Clips that an evaluated video counts as."""
        return self.num_clips * self.num_crops

    def clip_at(self, share: float, times: FrameTimes) -> np.ndarray:
        """Indices (T) of the frames of one clip.

        Args:
            share: Where it begins, in [0, 1]: 0 is the first moment, 1 the last that lets it fit.
            times: Of the video's frames.
        """
        step = self.stride / FRAME_RATE
        start = share * max(0.0, times.duration - self.num_frames * step)
        return times.shown_at(start + step * np.arange(self.num_frames))

    def even_clips(self, times: FrameTimes) -> np.ndarray:
        """Indices (clips * T) of the frames of clips from the first moment to the last.

        Source: Feichtenhofer et al. 2019, https://arxiv.org/abs/1812.03982, section 4: 10 clips of
            3 crops; Feichtenhofer 2020, https://arxiv.org/abs/2004.04730, also 10 of the centre.
        """
        shares = [0.5] if self.num_clips == 1 else np.linspace(0, 1, self.num_clips)
        return np.concatenate([self.clip_at(float(share), times) for share in shares])


def read_video(
    path: Path, sampling: ClipSampling, *, is_random: bool = False, is_strict: bool = True
) -> VideoFrames:
    """Read the frames that a network is shown of a video file.

    Args:
        path: The file.
        sampling: Which frames.
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
        read = read_frames(path, choose)
        if is_strict and read.problem is not None:
            raise ValueError(read.problem)
    except ValueError:
        # What takes the file's place must look as it does once the damage is known.
        torch.set_rng_state(before)
        raise
    return read
