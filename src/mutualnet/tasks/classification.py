"""Classification of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mutualnet.data import ResizeToConfiguration
from mutualnet.losses import distillation_loss
from mutualnet.space import Subnet
from mutualnet.tasks.base import Score, ScoreAccumulator, Task


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Images (N, C, H, W) and class numbers (N), or probabilities (N, K), against logits (N, K)."""

    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes, in [0, 1)."""
    class_weights: tuple[float, ...] | None = None
    """K weights of the classes in the loss on labels; None for 1."""

    data_kind: ClassVar[str | None] = "classification"
    score_name: ClassVar[str] = "top-1 accuracy (%)"

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")

    def for_training(
        self, labels: np.ndarray, num_classes: int, *, label_smoothing: float, is_balanced: bool
    ) -> Classification:
        """The same with label smoothing, and with weights by which all classes count alike."""
        weights = None
        if is_balanced:
            counts = np.bincount(labels, minlength=num_classes)
            weights = tuple((len(labels) / num_classes / counts.clip(1)).tolist())
        return replace(self, label_smoothing=label_smoothing, class_weights=weights)

    def loss_of_guessing(self, labels: np.ndarray, num_classes: int) -> float:
        """Cross entropy of equal logits: ln K whatever the target, times the mean weight."""
        if self.class_weights is None:
            return math.log(num_classes)
        return math.log(num_classes) * float(np.asarray(self.class_weights)[labels].mean())

    def scale(self, batch: Any, subnet: Subnet) -> tuple[Tensor, Tensor]:
        """Resize the normalised images on their device; equal sizes pass through.

        Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978: all sizes of a step come from
            one crop, by bilinear interpolation with aligned corners.
        """
        images, labels = _unpack(batch)
        return scale_images(images, subnet.resolution), labels

    def inputs(self, batch: Any) -> Tensor:
        """The images."""
        return _unpack(batch)[0]

    def supervised_loss(self, outputs: Any, batch: Any) -> Tensor:
        """Cross entropy in nats, times the weight of each image's class, averaged over the batch.

        The weight of an image with probabilities of classes is their mean by these.

        Raises:
            TypeError: If outputs are not one tensor of logits.
        """
        logits, labels = logits_of(outputs), _unpack(batch)[1]
        losses = F.cross_entropy(
            logits, labels, label_smoothing=self.label_smoothing, reduction="none"
        )
        if self.class_weights is not None:
            # Not cross_entropy's own weights: they weigh the classes over which a label is
            # smoothed too, and its mean divides by them, so parts of a batch would not add up.
            losses = losses * _weights_of(labels, logits.new_tensor(self.class_weights))
        return losses.mean()

    def check_outputs(self, outputs: Any, num_classes: int) -> None:
        """Refuse what is not one logit for each class.

        Raises:
            ValueError: If it is not.
        """
        check_logits(outputs, num_classes)

    def check_labels(self, outputs: Any, batch: Any, *, reads_values: bool) -> None:
        """Refuse what is neither class numbers (N) int64 nor probabilities (N, K).

        Raises:
            TypeError: If class numbers are not int64, or probabilities not floating point.
            ValueError: If shapes do not fit, or a class number is not one of the K.
        """
        shape, labels = tuple(logits_of(outputs).shape), _unpack(batch)[1]
        if labels.dim() == 1 and labels.dtype != torch.int64:
            raise TypeError(
                f"class numbers must be int64, got {labels.dtype}. Convert them: labels.long()."
            )
        if labels.dim() != 1 and not labels.is_floating_point():
            raise TypeError(f"probabilities of classes must be floats, got {labels.dtype}")
        if tuple(labels.shape) not in (shape, shape[:1]):
            raise ValueError(
                f"labels must be class numbers ({shape[0]},) or probabilities {shape} for outputs "
                f"{shape}, got {tuple(labels.shape)}"
            )
        if reads_values and labels.dim() == 1 and len(labels):
            low, high = (int(value) for value in labels.aminmax())
            if low < 0 or high >= shape[1]:
                raise ValueError(
                    f"class numbers must lie in 0..{shape[1] - 1}, got {low}..{high}. Number the "
                    "classes from 0, or build the network with more."
                )
        if reads_values and labels.dim() == 2 and not bool(labels.isfinite().all()):
            raise ValueError("probabilities of classes must be finite numbers, got others")

    def distill_loss(self, outputs: Any, teacher_outputs: Any, tau: float = 1.0) -> Tensor:
        """Kullback-Leibler divergence from the teacher in nats, averaged over the batch.

        Raises:
            TypeError: If outputs are not one tensor of logits.
            ValueError: If tau is not positive, or the numbers of classes differ.
        """
        student, teacher = logits_of(outputs), logits_of(teacher_outputs)
        return distillation_loss(student, teacher, tau, detach=False)

    def probabilities(self, outputs: Any) -> Tensor:
        """Share of each class (N, K); the shares of an image add up to 1."""
        return logits_of(outputs).float().softmax(1)

    def describe(self, outputs: Any, class_names: Sequence[str]) -> list[str]:
        """The three likeliest classes with their probabilities."""
        lines = []
        for shares in self.probabilities(outputs):
            best = shares.topk(min(3, len(shares)))
            lines.append(
                ", ".join(
                    f"{class_names[int(i)]} {100 * float(p):.1f} %"
                    for p, i in zip(best.values, best.indices, strict=True)
                )
            )
        return lines

    def sample_scores(self, outputs: Any, batch: Any) -> Tensor:
        """100 for each image whose class has the highest logit, 0 for others.

        Raises:
            TypeError: If outputs are not one tensor of logits.
            ValueError: If labels are not one class number an image.
        """
        return 100.0 * _is_right(outputs, batch)

    def new_score(self) -> TopOneAccuracy:
        """Start counting right answers."""
        return TopOneAccuracy()


class TopOneAccuracy(ScoreAccumulator):
    """Share of images whose class has the highest logit, in percent.

    An image with a logit that is not a number counts as wrong. The standard error is that of a
    binomial share, 100 sqrt(p (1 - p) / n).
    """

    def __init__(self) -> None:
        self._num_correct: Tensor | int = 0
        self._num_samples = 0

    def update(self, outputs: Any, batch: Any) -> None:
        """Count logits (N, K) against class numbers (N).

        Raises:
            TypeError: If outputs are not one tensor of logits.
            ValueError: If labels are not one class number an image.
        """
        is_right = _is_right(outputs, batch)
        # The sum stays on its device: reading it here would stall an accelerator every batch.
        self._num_correct = self._num_correct + is_right.sum()
        self._num_samples += len(is_right)

    def compute(self) -> Score:
        """Accuracy over all batches so far, in percent.

        Raises:
            ValueError: If there were none.
        """
        if not self._num_samples:
            raise ValueError("a score needs at least one sample, got none. Is the data empty?")
        share = int(self._num_correct) / self._num_samples
        return Score(
            value=100 * share,
            standard_error=100 * (share * (1 - share) / self._num_samples) ** 0.5,
            num_samples=self._num_samples,
        )


def _unpack(batch: Any) -> tuple[Tensor, Tensor]:
    images, labels = batch
    return images, labels


def _is_right(outputs: Any, batch: Any) -> Tensor:
    """(N), whether the class of each image has its highest logit; not if one is not a number."""
    logits, labels = logits_of(outputs), _unpack(batch)[1]
    if labels.shape != logits.shape[:1]:  # others may be compared too, and mean nothing
        raise ValueError(
            f"labels must be class numbers ({len(logits)},) to be scored by, got "
            f"{tuple(labels.shape)}. Probabilities of classes are for training alone."
        )
    return (logits.argmax(1) == labels) & ~logits.isnan().any(1)


def _weights_of(labels: Tensor, class_weights: Tensor) -> Tensor:
    """(N) weights of images, by class numbers (N) or probabilities (N, K)."""
    return class_weights[labels] if labels.dim() == 1 else labels.to(class_weights) @ class_weights


def scale_images(images: Tensor, side: int) -> Tensor:
    """Resize images (N, C, H, W) to squares on their device; equal sizes pass through."""
    return ResizeToConfiguration()(images, side)


def check_logits(outputs: Any, num_classes: int) -> None:
    """Refuse outputs that are not logits (N, K).

    Raises:
        ValueError: If they are not.
    """
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"the network must return one tensor, got {type(outputs).__name__}. Build it "
            "without auxiliary outputs."
        )
    if outputs.shape[1:] != (num_classes,):
        raise ValueError(
            f"the network must return a logit for each of the {num_classes} classes of the data, "
            f"got outputs {tuple(outputs.shape)}. Build it with num_classes."
        )


def logits_of(outputs: Any) -> Tensor:
    """The outputs, which must be logits.

    Raises:
        TypeError: If they are not one tensor.
    """
    if not isinstance(outputs, torch.Tensor):
        raise TypeError(
            f"outputs must be one tensor of logits (N, K), got {type(outputs).__name__}. "
            "Build the network without auxiliary outputs, or return its logits alone."
        )
    return outputs
