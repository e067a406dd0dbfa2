"""Which action a clip shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from mutualnet.data import Preprocessing, video_views
from mutualnet.losses import at_least_fp32
from mutualnet.space import Subnet
from mutualnet.supernet import ExampleMaker
from mutualnet.tasks.caption import with_caption
from mutualnet.tasks.classification import Classification, logits_of, scale_images
from mutualnet.video_drawing import rewrite_video, writable_name
from mutualnet.video_files import EXTENSIONS


@dataclass(frozen=True, kw_only=True)
class ActionRecognition(Classification):
    """Clips (N, C, T, H, W) and class numbers (N) against logits (N, K).

    An evaluated video may come as several views, (N, V, C, T, H, W), over which probabilities are
    averaged.
    """

    data_kind: ClassVar[str | None] = "action_recognition"
    input_kind: ClassVar[str] = "video"
    input_endings: ClassVar[tuple[str, ...]] = EXTENSIONS

    def scale(self, batch: Any, subnet: Subnet) -> tuple[Any, Tensor]:
        """Take fewer frames of the same clips, spread evenly, and resize these.

        Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978: all sizes of a step come from
            one crop; its extension to video also shows sub-networks fewer frames.
        """
        clips, labels = batch
        return scale_clips(clips, subnet), labels

    def one_image(self, image: Image.Image, preprocessing: Preprocessing) -> Any:
        """Refuse: one image shows no action.

        Raises:
            ValueError: Always.
        """
        raise ValueError("actions are seen in videos, got one image. Call predict() with a file.")

    def read(
        self, path: Path, preprocessing: Preprocessing, options: Mapping[str, int]
    ) -> tuple[Any, Tensor]:
        """A video file as the views of an evaluated one, (1, V, C, T, H, W).

        A file that is cut off is read as far as it goes, which the log says.

        Raises:
            ValueError: If it cannot be read.
        """
        return video_views(path, preprocessing, **options)[None], torch.zeros(1, dtype=torch.long)

    def drawn_name(self, name: str) -> str:
        """The same, with an ending that can be written."""
        return writable_name(name)

    def draw(self, path: Path, out: Path, outputs: Any, class_names: Sequence[str]) -> None:
        """Write the video with the likeliest action and its probability on every frame.

        Raises:
            ValueError: If the ending of the name to write is that of no video.
        """
        share, best = self.probabilities(outputs)[0].max(0)
        caption = f"{class_names[int(best)]} {100 * float(share):.1f} %"
        rewrite_video(path, out, lambda frame: with_caption(frame, caption))

    def inputs(self, batch: Any) -> Any:
        """The clips, views one after the other: (N V, C, T, H, W)."""
        return _flat(batch[0])

    def num_samples(self, batch: Any) -> int:
        """Videos, whatever the number of their views."""
        return len(batch[1])

    def run(self, network: Callable[[Any], Any], batch: Any) -> Any:
        """Logits (N, K): of several views the logarithms of their mean probabilities.

        Source: Feichtenhofer et al. 2019, https://arxiv.org/abs/1812.03982, section 4: softmax
            scores are averaged over clips and crops.
        """
        outputs = network(self.inputs(batch))
        clips = batch[0] if isinstance(batch[0], Tensor) else batch[0][0]
        if clips.dim() == 5:
            return outputs
        return mean_over_views(logits_of(outputs), clips.shape[1])


@dataclass(frozen=True, kw_only=True)
class SlowFastActionRecognition(ActionRecognition):
    """The same for networks that are given a pair of clips, as `SlowFast` is.

    A batch holds the fast pathway's clips; every `alpha`-th of their frames is the slow one's. A
    sub-network has fewer of these frames, and smaller ones; the fast pathway keeps its clips.
    """

    alpha: int = 8
    """Frames of the fast pathway for each of the slow one."""

    def scale(self, batch: Any, subnet: Subnet) -> tuple[Any, Tensor]:
        """Make clips for both pathways, of which the slow ones are as for a sub-network."""
        clips, labels = batch
        return (scale_clips(clips[..., :: self.alpha, :, :], subnet), clips), labels

    def run(self, network: Callable[[Any], Any], batch: Any) -> Any:
        """Logits (N, K), see `ActionRecognition.run`.

        Raises:
            ValueError: If the network has another `alpha`.
        """
        known = getattr(network, "alpha", self.alpha)
        if known != self.alpha:
            raise ValueError(
                f"alpha must be the network's, {known}, got {self.alpha}. Name a task of yours "
                f"that returns SlowFastActionRecognition(alpha={known})."
            )
        return super().run(network, batch)

    def example_maker(self, shape: tuple[int, ...]) -> ExampleMaker:
        """Zeros for both pathways, as they are made of a loaded clip."""
        return _ScaledClip(self, shape)


@dataclass(frozen=True)
class _ScaledClip:
    """Makes what a network is given of a clip of zeros (C, T, H, W) as a sub-network."""

    task: ActionRecognition
    shape: tuple[int, ...]

    def __call__(self, subnet: Subnet, largest: Subnet) -> Any:
        batch = torch.zeros(1, *self.shape), torch.zeros(1, dtype=torch.long)
        return self.task.inputs(self.task.scale(batch, subnet))


def frame_indices(num_frames: int, wanted: int) -> list[int]:
    """Which frames of a clip stand for all of it: the middle ones of as many equal parts.

    Args:
        num_frames: Of the clip.
        wanted: How many, from 1 to all. Frame n is number (n + 1/2) num_frames / wanted, rounded
            down: of 16 frames 6 are 1, 4, 6, 9, 12 and 14; all are all, and a half is every other.

    Raises:
        ValueError: If more are wanted than there are.
    """
    if not 1 <= wanted <= num_frames:
        raise ValueError(
            f"a sub-network must see 1 to {num_frames} frames, which its clips have, got {wanted}. "
            "Lower space.frames, or raise clips.num_frames."
        )
    return [(2 * number + 1) * num_frames // (2 * wanted) for number in range(wanted)]


def scale_clips(clips: Tensor, subnet: Subnet) -> Tensor:
    """Bring normalised clips to the frames and the resolution of a sub-network.

    Args:
        clips: (..., C, T, H, W).
        subnet: Frames that it does not name are all.
    """
    if subnet.num_frames is not None and subnet.num_frames != clips.shape[-3]:
        kept = frame_indices(clips.shape[-3], subnet.num_frames)
        clips = clips[..., torch.tensor(kept, device=clips.device), :, :]
    before = clips.shape[:-2]
    images = scale_images(clips.flatten(0, -4), subnet.resolution)
    return images.unflatten(0, before[:-1]) if len(before) > 2 else images


def mean_over_views(logits: Tensor, num_views: int) -> Tensor:
    """Logarithms of the mean probabilities (N, K) of the views' logits (N V, K)."""
    views = at_least_fp32(logits).log_softmax(1).unflatten(0, (-1, num_views))
    return views.logsumexp(1) - math.log(num_views)


def _flat(clips: Any) -> Any:
    """Views as clips of their own."""
    if not isinstance(clips, Tensor):
        return tuple(map(_flat, clips))
    return clips.flatten(0, 1) if clips.dim() == 6 else clips
