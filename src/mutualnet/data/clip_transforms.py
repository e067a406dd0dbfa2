"""From the frames of a video to a network's clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mutualnet.clip_steps import ClipSampling, view_crops, views_of_crops
from mutualnet.data.photos import photo_transform
from mutualnet.data.preprocessing import Preprocessing
from mutualnet.video_files import VideoFrames

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
"""Mean and standard deviation that networks for clips are trained with."""
_JITTER = (256 / 224, 320 / 224)
"""Short side of a train clip over the side of its crop, drawn uniformly."""


@dataclass(frozen=True, kw_only=True)
class RandomClip:
    """Crop a clip at random, its short side drawn too, and mirror every other one.

    Source: Feichtenhofer et al. 2019, https://arxiv.org/abs/1812.03982, section 4: the short side
        is 256 to 320 pixels for crops of 224.
    """

    resolution: int
    """Side of the result, in pixels."""

    def __call__(self, read: VideoFrames) -> Tensor:
        """Map frames to a normalised clip (C, T, H, W) by torch's generator."""
        low, high = _JITTER
        jitter, across, down, mirror = torch.rand(4).tolist()
        height, width = read.frames[0].shape[:2]
        side = min(height, width) / (low + (high - low) * jitter)
        left, top = across * (width - side), down * (height - side)
        box, size = (left, top, left + side, top + side), (self.resolution, self.resolution)
        frames = {
            id(frame): np.asarray(
                Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR, box)
            )
            for frame in read.frames
        }
        clip = np.stack([frames[id(frame)] for frame in read.frames])
        clip = clip[:, :, ::-1] if mirror < 0.5 else clip
        pixels = torch.from_numpy(np.ascontiguousarray(clip.transpose(3, 0, 1, 2))).float()
        mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in (MEAN, STD))
        return (pixels / 255 - mean) / std


@dataclass(frozen=True, kw_only=True)
class EvenViews:
    """Bring the frames of an evaluated video into its views, without chance.

    Each frame is cropped as soon as it is decoded: all of a long clip would need gigabytes.
    """

    sampling: ClipSampling
    """Which views."""
    preprocessing: Preprocessing
    """What a frame goes through where only the centre is looked at."""

    def crops(self, frame: np.ndarray) -> np.ndarray:
        """Map a frame uint8 (H, W, 3) to its crops (crops, C, H, W)."""
        return view_crops(self.preprocessing, self.sampling)(frame)

    def __call__(self, read: VideoFrames) -> Tensor:
        """Map crops to views (V, C, T, H, W), or to a clip (C, T, H, W) where there is but one."""
        views = torch.from_numpy(views_of_crops(read.frames, self.sampling))
        return views[0] if len(views) == 1 else views


def frame_transform(resolution: int) -> Preprocessing:
    """What a frame of an evaluated video goes through, at its centre; no data set is read."""
    return photo_transform(resolution, MEAN, STD)


def even_views(resolution: int, sampling: ClipSampling) -> EvenViews:
    """What becomes of an evaluated video.

    One crop is the centre of a frame whose short side is 256/224 of it; three cover frames whose
    short side is theirs.
    """
    return EvenViews(sampling=sampling, preprocessing=frame_transform(resolution))
