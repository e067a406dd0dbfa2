"""Run an artifact: images or videos in, classes out, by the best configuration in a budget."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mutualnet.budget import Budget, parse_budget
from mutualnet.clip_steps import ClipSampling, view_crops, views_of_crops
from mutualnet.image_files import read_image
from mutualnet.image_steps import ImageSteps
from mutualnet.messages import reason_of
from mutualnet.runtime.artifact import Artifact
from mutualnet.runtime.manifest import Configuration
from mutualnet.runtime.predictions import Prediction, mean_over_views, probabilities
from mutualnet.runtime.sessions import Sessions, run_session
from mutualnet.space import Subnet
from mutualnet.video_files import read_frames

logger = logging.getLogger(__name__)

Picture = str | os.PathLike[str] | Image.Image | np.ndarray
"""A file, a PIL image of any mode, or pixels uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."""
_SHAPES = "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"


class AdaptiveRunner:
    """Runs an artifact within any budget. Any number of threads may use it at once.

    Args:
        artifact: What `mutualnet export` wrote: its path, or an `Artifact`.
        threads: That one inference uses; None for one a core.
        max_loaded: Most configurations in memory; the least recently used leave first.
        max_bytes: Most bytes of their weights; None for any.
        batch_size: Most images in one inference.
        public_key: File with the Ed25519 key of whoever must have signed the artifact
            (`pip install 'mutualnet[signing]'`); None to take any.

    Raises:
        ArtifactError: If the artifact is damaged, signed by another, or of a version that this one
            cannot read.
        ValueError: If a setting is below 1, or the file holds no public key.
    """

    def __init__(
        self,
        artifact: Artifact | Path | str,
        *,
        threads: int | None = None,
        max_loaded: int = 8,
        max_bytes: int | None = None,
        batch_size: int = 16,
        public_key: Path | str | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        key = None if public_key is None else Path(public_key)
        if not isinstance(artifact, Artifact):
            artifact = Artifact.open(artifact, public_key=key)
        elif key is not None:
            artifact.require_signature(key)
        self.artifact = artifact
        self.batch_size = batch_size
        self.sessions = Sessions(
            self.artifact, threads=threads, max_loaded=max_loaded, max_bytes=max_bytes
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each of the K outputs."""
        return self.artifact.manifest.class_names

    def choose(self, budget: str | Budget | Subnet | None = None) -> Subnet:
        """The configuration that a budget buys.

        Args:
            budget: Most multiply-adds (`"150M"`) or highest latency (`"8ms"`), a configuration
                itself, or None for the best of all.

        Raises:
            ValueError: If nothing meets it, a latency was not measured, or the artifact has no such
                configuration.
            TypeError: If it is none of these, such as a number without its unit.
        """
        if isinstance(budget, Subnet):
            return self.artifact.configuration(budget).subnet
        if isinstance(budget, str):
            budget = parse_budget(budget)
        if budget is not None and not isinstance(budget, Budget):
            raise TypeError(
                "a budget must be a text with its unit ('150M', '8ms'), a Budget, a Subnet or "
                f"None, got {budget!r}"
            )
        return self.artifact.choose(budget or Budget()).subnet

    def run(
        self,
        images: Picture | Sequence[Picture],
        budget: str | Budget | Subnet | None = None,
    ) -> list[Prediction]:
        """Classify images, or videos if the artifact is for those.

        Args:
            images: One, or any number of them; videos are named by their files.
            budget: As for `choose`.

        Returns:
            One prediction for each, in their order.

        Raises:
            ValueError: If a file cannot be read, or as `choose` does.
            TypeError: If an image is of no kind that is taken.
        """
        subnet = self.choose(budget)
        several = isinstance(images, Sequence) and not isinstance(images, str)
        todo: Iterable[Any] = images if several else [images]  # type: ignore[assignment]
        found: list[Prediction] = []
        todo = iter(todo)
        # The views of a video are images that are in memory together.
        at_once = max(1, self.batch_size // self.artifact.manifest.num_views)
        while batch := list(islice(todo, at_once)):
            logits = self.logits(np.stack([self.inputs(image) for image in batch]), subnet)
            found += self.predictions(logits, subnet)
        return found

    def inputs(self, image: Picture) -> np.ndarray:
        """What every graph takes of an image or video, float32 at the artifact's resolution.

        Returns:
            (C, H, W) of an image, (V, C, T, H, W) of the V views of a video.

        Raises:
            ValueError: If the file cannot be read; the text names it.
            TypeError: If it is of no kind that is taken.
        """
        manifest, array = self.artifact.manifest, np.zeros(0)
        expected = manifest.input_shape
        if manifest.clips is None:
            array = manifest.image_steps(_opened(image))
        else:
            array = _views(image, manifest.image_steps, manifest.clips)
            expected = (manifest.clips.num_views, *expected)
        if array.shape != expected:
            raise ValueError(f"the artifact's steps must make {expected}, got {array.shape}")
        return array

    def logits(self, inputs: np.ndarray, subnet: Subnet) -> np.ndarray:
        """Outputs (N, K) of a configuration before softmax.

        Of videos they are the logarithms of the probabilities' means over the views.

        Args:
            inputs: float32 (N, C, H, W) in one inference, or (N, V, C, T, H, W) in inferences of
                at most `batch_size` views, as `inputs` makes them.
            subnet: Which configuration.
        """
        if not len(inputs):
            return np.zeros((0, len(self.class_names)), np.float32)
        if inputs.ndim == 6:
            return np.stack([mean_over_views(self._view_logits(v, subnet)) for v in inputs])
        configuration = self.artifact.configuration(subnet)
        session = self.sessions.get(configuration)
        found = [
            run_session(self.artifact, configuration, session, batch)[:count]
            for batch, count in _batches(inputs, configuration)
        ]
        return np.concatenate(found)

    def _view_logits(self, views: np.ndarray, subnet: Subnet) -> np.ndarray:
        """Logits (V, K) of the views of a video."""
        size = self.batch_size
        starts = range(0, len(views), size)
        return np.concatenate(
            [self.logits(views[first : first + size], subnet) for first in starts]
        )

    def predictions(self, logits: np.ndarray, subnet: Subnet) -> list[Prediction]:
        """What logits (N, K) of a configuration say."""
        names = self.class_names
        return [
            Prediction(
                class_name=names[int(shares.argmax())],
                probability=float(shares.max()),
                probabilities=tuple(shares.tolist()),
                subnet=subnet,
            )
            for shares in probabilities(self.artifact.manifest.task, logits)
        ]


def _batches(inputs: np.ndarray, configuration: Configuration) -> Iterable[tuple[np.ndarray, int]]:
    """Batches of the size that a graph takes, the last one filled up, and how many are meant."""
    size = configuration.batch_size
    if size is None:
        yield inputs, len(inputs)
        return
    for start in range(0, len(inputs), size):
        batch = inputs[start : start + size]
        missing = size - len(batch)
        filled = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)])
        yield filled, len(batch)


def _views(video: Any, steps: ImageSteps, sampling: ClipSampling) -> np.ndarray:
    """The views of a video file."""
    if not isinstance(video, str | os.PathLike):
        raise TypeError(f"a video must be given by its file, got {type(video).__name__}")
    if not Path(video).is_file():
        raise ValueError(f"there is no video file {os.fspath(video)}")
    try:
        read = read_frames(video, sampling.even_clips, view_crops(steps, sampling))
    except ValueError as error:
        raise ValueError(
            f"{os.fspath(video)} must be a video that can be read, got {error}"
        ) from None
    if read.problem is not None:
        logger.warning("%s is read as far as it goes: %s", os.fspath(video), read.problem)
    return views_of_crops(read.frames, sampling)


def _opened(image: Picture) -> Image.Image:
    if isinstance(image, Image.Image):
        try:
            image.load()  # of a file that was only opened
        except Exception as error:  # Pillow's decoders raise anything on a broken file
            raise ValueError(
                f"a PIL image must have all its pixels, got {reason_of(error)}"
            ) from None
        return image
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
            raise TypeError(
                f"an array must hold pixels uint8 {_SHAPES}, got {image.dtype} {image.shape}"
            )
        if image.ndim == 3 and image.shape[2] not in (1, 3, 4):
            raise ValueError(f"an array must be one image {_SHAPES}, got {image.shape}")
        return Image.fromarray(image[:, :, 0] if image.shape[2:] == (1,) else image)
    if not isinstance(image, str | os.PathLike):
        raise TypeError(
            f"an image must be a file, a PIL image or an array, got {type(image).__name__}"
        )
    if not Path(image).is_file():
        raise ValueError(f"there is no image file {os.fspath(image)}")
    try:
        return read_image(image)
    except Exception as error:  # Pillow's decoders raise anything on a broken file
        reason = reason_of(error)
        raise ValueError(
            f"{os.fspath(image)} must be an image that can be read, got {reason}"
        ) from None
