"""From the frames of an evaluated video to a network's clips: which frames, and what of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mutualnet.image_steps import CenterCrop, CropEnds, ImageSteps, ResizeShortSide
from mutualnet.video_files import FrameTimes

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


def view_crops(steps: ImageSteps, sampling: ClipSampling) -> Callable[[np.ndarray], np.ndarray]:
    """What a frame uint8 (H, W, 3) goes through by itself, without chance.

    Args:
        steps: What a frame goes through where only its centre is looked at. Three crops cover a
            frame whose short side is that of the centre crop.
        sampling: Which views.

    Returns:
        A function from a frame to its crops, normalised floats (crops, C, H, W). It raises a
        ValueError if three crops are asked for, and no step crops the centre.
    """
    return lambda frame: _crops(Image.fromarray(frame), steps, sampling.num_crops)


def views_of_crops(crops: Sequence[np.ndarray], sampling: ClipSampling) -> np.ndarray:
    """Arrange the crops of an evaluated video's frames into its views.

    Args:
        crops: Of each frame of `sampling.even_clips`, as `view_crops` makes them.
        sampling: Which views.

    Returns:
        Normalised floats (V, C, T, H, W), all crops of a clip one after the other.
    """
    stacked = np.stack(crops)  # (clips * T, crops, C, H, W)
    views = stacked.reshape(sampling.num_clips, sampling.num_frames, *stacked.shape[1:])
    views = views.transpose(0, 2, 3, 1, 4, 5)
    return np.ascontiguousarray(views.reshape(-1, *views.shape[2:]))


def _crops(frame: Image.Image, steps: ImageSteps, num_crops: int) -> np.ndarray:
    """(crops, C, H, W) of one frame."""
    if num_crops == 1:
        return np.asarray(steps(frame))[None]
    places = [n for n, step in enumerate(steps.steps) if isinstance(step, CenterCrop)]
    if not places:
        raise ValueError("three crops need a step that crops the centre, got none")
    centre: Any = steps.steps[places[0]]
    frame, found = ResizeShortSide(size=centre.size)(CropEnds()(frame)), []
    for share in (0.0, 0.5, 1.0):
        left, top = (round(share * (size - centre.size)) for size in frame.size)
        crop: Any = frame.crop((left, top, left + centre.size, top + centre.size))
        for step in steps.steps[places[0] + 1 :]:
            crop = step(crop)
        found.append(np.asarray(crop))
    return np.stack(found)
