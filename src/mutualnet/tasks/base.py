"""The interface between a task and everything else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from mutualnet.data import Preprocessing
from mutualnet.image_files import read_image
from mutualnet.image_paths import EXTENSIONS
from mutualnet.runtime import replaced_when_whole
from mutualnet.score import Score
from mutualnet.space import Subnet
from mutualnet.supernet import ExampleMaker, Supernet
from mutualnet.tasks.caption import with_caption


class ScoreAccumulator(ABC):
    """Adds batches up to a score."""

    @abstractmethod
    def update(self, outputs: Any, batch: Any) -> None:
        """Count a batch and the network's outputs for it."""

    @abstractmethod
    def compute(self) -> Score:
        """Score of all batches so far.

        Raises:
            ValueError: If there were none.
        """


class Task(ABC):
    """What training and evaluation need to know about a batch and a network's outputs.

    A batch is what the data loader yields, at the largest configuration.
    """

    data_kind: ClassVar[str | None] = None
    """`DataSplits.task` of the data that it is for; None for any."""
    learns_in_train_mode_alone: ClassVar[bool] = False
    """Whether networks in eval mode give what no loss can be taken of, so that none can be a fixed
    teacher."""
    memory_formats: ClassVar[tuple[str, ...]] = ("contiguous", "channels_last")
    """Layouts to try in training where the recipe does not say which."""
    score_name: ClassVar[str]
    """What the score is called in tables and plots, with its unit."""
    input_kind: ClassVar[str] = "image"
    """What a network predicts on, in messages."""
    input_endings: ClassVar[tuple[str, ...]] = EXTENSIONS
    """Endings of the names of such files, in small letters."""

    def for_training(
        self, labels: np.ndarray, num_classes: int, *, label_smoothing: float, is_balanced: bool
    ) -> Task:
        """The task with all that concerns its losses in training.

        Args:
            labels: Of the train split, as `LabelledImages.labels` has them.
            num_classes: K.
            label_smoothing: Share of the target spread over all classes.
            is_balanced: Whether rare classes weigh as much as others.

        Raises:
            ValueError: If it knows no such thing, as tasks do by default.
        """
        asked = {"label_smoothing": label_smoothing, "data.balance=loss": is_balanced}
        for name, is_set in asked.items():
            if is_set:
                raise ValueError(f"{name} is for class labels; {type(self).__name__} has none such")
        return self

    def loss_of_guessing(self, labels: np.ndarray, num_classes: int) -> float | None:
        """Loss on labels of a network that finds all classes alike; None if there is no such.

        A training that ends far above it has diverged.

        Args:
            labels: Of the train split.
            num_classes: K.
        """
        return None

    @abstractmethod
    def scale(self, batch: Any, subnet: Subnet) -> Any:
        """Bring a batch to the resolution (and frames) of a sub-network; the batch is kept."""

    @abstractmethod
    def inputs(self, batch: Any) -> Any:
        """What the network is called with: a tensor, a tuple of them, or a list, one a sample."""

    def num_samples(self, batch: Any) -> int:
        """Images or clips of a batch."""
        return len(self.inputs(batch))

    def run(self, network: Callable[[Any], Any], batch: Any) -> Any:
        """The network's outputs for a scaled batch, for all that follows.

        Override it for networks that take more than inputs, such as detectors, which want targets
        in train mode.
        """
        return network(self.inputs(batch))

    def example_inputs(self, supernet: Supernet, subnet: Subnet) -> Any:
        """What a sub-network is timed on: the inputs of one sample."""
        return supernet.example_input(subnet)

    def example_maker(self, shape: tuple[int, ...]) -> ExampleMaker | None:
        """What makes examples for a `Supernet`; None where the network's own fit any data.

        Override it for networks that see more of a sample than a sub-network's frames and pixels.

        Args:
            shape: Of a clip as the data loader yields it, (C, T, H, W), or of an image (C, H, W).
        """
        return None

    def whole_macs(self, supernet: Supernet, subnet: Subnet) -> dict[str, int] | None:
        """Multiply-adds of all parts of a network by their names, and their `total`.

        For networks of which a table counts a part alone (`Supernet.counted_part`); None for all
        others.
        """
        return None

    def check_outputs(self, outputs: Any, num_classes: int) -> None:  # noqa: B027
        """Refuse outputs in eval mode that this task cannot use; the default takes everything.

        Args:
            outputs: The network's, for a batch.
            num_classes: Of the data.

        Raises:
            ValueError: If they do not fit.
        """

    @abstractmethod
    def supervised_loss(self, outputs: Any, batch: Any) -> Tensor:
        """Scalar loss against the labels, averaged over the batch."""

    def check_batch(self, batch: Any, *, reads_values: bool) -> None:  # noqa: B027
        """Refuse labels with which a network would fail; the default takes everything.

        Override it for networks that are called with their labels.

        Args:
            batch: At the top resolution.
            reads_values: Whether the labels' values may be read, which waits for their device.

        Raises:
            TypeError: If they are of the wrong type.
            ValueError: If they are of the wrong shape or out of range.
        """

    def check_labels(self, outputs: Any, batch: Any, *, reads_values: bool) -> None:  # noqa: B027
        """Refuse labels that the loss cannot take; the default takes everything.

        Args:
            outputs: The network's, for the batch.
            batch: What the labels are of.
            reads_values: Whether the labels' values may be read, which waits for their device.

        Raises:
            TypeError: If they are of the wrong type.
            ValueError: If they are of the wrong shape or out of range.
        """

    @abstractmethod
    def distill_loss(self, outputs: Any, teacher_outputs: Any, tau: float = 1.0) -> Tensor:
        """Scalar loss against another network's outputs at a temperature.

        It takes the place of the loss on labels. The outputs come detached where they are to
        receive no gradient.
        """

    def divergence(self, outputs: Any, teacher_outputs: Any, tau: float = 1.0) -> Tensor:
        """What `peer_step` adds to the loss on labels for each teacher; by default `distill_loss`.

        Override it where that holds some of the loss on labels, which would count twice.
        """
        return self.distill_loss(outputs, teacher_outputs, tau)

    def detach(self, outputs: Any) -> Any:
        """The outputs without their graph, to be another network's target."""
        return tree_map(lambda v: v.detach() if isinstance(v, Tensor) else v, outputs)

    def split(self, batch: Any, count: int) -> list[Any]:
        """Split a batch of tensors into micro-batches of about equal size, along dimension 0.

        Override it for batches that hold lists.
        """
        if count == 1:
            return [batch]
        values, structure = tree_flatten(batch)
        split = zip(*(value.tensor_split(count) for value in values), strict=True)
        return [tree_unflatten(micro_batch, structure) for micro_batch in split]

    def probabilities(self, outputs: Any) -> Tensor | None:
        """Share of each class (N, K) in [0, 1], or None where outputs say something else."""
        return None

    def describe(self, outputs: Any, class_names: Sequence[str]) -> list[str]:
        """What the outputs say, one line per image, for people."""
        return [str(output) for output in outputs]

    def one_image(self, image: Image.Image, preprocessing: Preprocessing) -> Any:
        """A picture as a batch of one, at the top resolution; its label says nothing.

        Override it where a batch is something else than images and labels.

        Args:
            image: Of any mode and size.
            preprocessing: What an image goes through.

        Raises:
            ValueError: If the image cannot be converted.
        """
        return preprocessing(image)[None], torch.zeros(1, dtype=torch.long)

    def read(self, path: Path, preprocessing: Preprocessing, options: Mapping[str, int]) -> Any:
        """A file as a batch of one; by default an image.

        Override it for files of other kinds.

        Args:
            path: The file.
            preprocessing: What an image goes through.
            options: What the data set was told besides: `Recipe.clip_options`.

        Raises:
            Exception: Whatever decoders raise on a broken file.
        """
        return self.one_image(read_image(path), preprocessing)

    object_columns: ClassVar[tuple[str, ...]] = ()
    """Names of the values that `objects` gives beside class and probability, in tables."""

    def objects(
        self, path: Path, outputs: Any, class_names: Sequence[str]
    ) -> list[dict[str, Any]] | None:
        """What was found on an image, one mapping of plain values each; None for other tasks.

        Each has `class`, `probability` and the task's own values.

        Args:
            path: The file.
            outputs: For the batch that `read` made of it.
            class_names: Of the K classes.
        """
        return None

    def drawn_name(self, name: str) -> str:
        """What a file is called that `draw` makes of one of some name, in another folder."""
        return name

    def draw(self, path: Path, out: Path, outputs: Any, class_names: Sequence[str]) -> None:
        """Write a copy of an image file on which one can see what the outputs say; by default text.

        What is at the place to write stays until the copy is whole.

        Args:
            path: The file.
            out: The file to write.
            outputs: For the batch that `read` made of it.
            class_names: Of the K classes.

        Raises:
            ValueError: If the ending of the name to write is that of no image.
            OSError: If the file cannot be written.
        """
        picture = with_caption(read_image(path), self.describe(outputs, class_names)[0])
        with replaced_when_whole(out) as new:
            picture.save(new)

    @abstractmethod
    def new_score(self) -> ScoreAccumulator:
        """Start a score."""

    def sample_scores(self, outputs: Any, batch: Any) -> Tensor | None:
        """What each image adds to the score, (N,) in its unit, if the score is their mean.

        None if it is not, as with mean average precision. Sub-networks are then not compared image
        by image, and a table takes all of them through all images.
        """
        return None

    def batch_to(self, batch: Any, device: torch.device | str) -> Any:
        """Move every tensor of a batch to a device, in tuples, lists and mappings too."""
        if isinstance(batch, Tensor):
            return batch.to(device, non_blocking=True)
        if isinstance(batch, Mapping):
            return {key: self.batch_to(value, device) for key, value in batch.items()}
        if isinstance(batch, tuple) and hasattr(batch, "_fields"):
            return type(batch)(*(self.batch_to(value, device) for value in batch))
        if isinstance(batch, list | tuple):
            return type(batch)(self.batch_to(value, device) for value in batch)
        return batch
