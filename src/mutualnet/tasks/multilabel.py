"""Images that may carry several labels, or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision

from mutualnet.losses import at_least_fp32
from mutualnet.space import Subnet
from mutualnet.tasks.base import Score, ScoreAccumulator, Task
from mutualnet.tasks.classification import check_logits, logits_of, scale_images

_NUM_RESAMPLES = 50
"""Bootstrap samples behind a standard error."""


@dataclass(frozen=True, kw_only=True)
class MultiLabel(Task):
    """A sigmoid per label.

    A batch is images (N, C, H, W) and targets (N, K) of zeros and ones.
    """

    positive_weights: tuple[float, ...] | None = None
    """K weights of the labels' positives in the loss; None for 1."""

    data_kind: ClassVar[str | None] = "multilabel"
    score_name: ClassVar[str] = "mean average precision (%)"

    def for_training(
        self, labels: np.ndarray, num_classes: int, *, label_smoothing: float, is_balanced: bool
    ) -> MultiLabel:
        """The same with weights by which the images with and without a label count alike.

        Raises:
            ValueError: If `label_smoothing` is not 0.
        """
        if label_smoothing:
            raise ValueError("label_smoothing is for class labels; set it to 0 for other tasks")
        if not is_balanced:
            return self
        least = 1 / len(labels)
        share = labels.mean(0).clip(least, 1 - least)
        return replace(self, positive_weights=tuple(((1 - share) / share).tolist()))

    def loss_of_guessing(self, labels: np.ndarray, num_classes: int) -> float:
        """Binary cross entropy of logits 0: ln 2 times the mean weight of all outcomes."""
        weights = np.ones(num_classes)
        if self.positive_weights is not None:
            weights = np.asarray(self.positive_weights)
        shares = labels.mean(0, dtype=np.float64)
        return math.log(2) * float((shares * weights + 1 - shares).mean())

    def scale(self, batch: Any, subnet: Subnet) -> tuple[Tensor, Tensor]:
        """Resize the images as in classification."""
        images, targets = batch
        return scale_images(images, subnet.resolution), targets

    def inputs(self, batch: Any) -> Tensor:
        """The images."""
        return batch[0]

    def supervised_loss(self, outputs: Any, batch: Any) -> Tensor:
        """Binary cross entropy in nats, averaged over labels and batch.

        Raises:
            TypeError: If outputs are not one tensor of logits.
        """
        logits = at_least_fp32(logits_of(outputs))
        weights = None
        if self.positive_weights is not None:
            weights = logits.new_tensor(self.positive_weights)
        targets = batch[1].to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)

    def check_outputs(self, outputs: Any, num_classes: int) -> None:
        """Refuse what is not one logit for each label.

        Raises:
            ValueError: If it is not.
        """
        check_logits(outputs, num_classes)

    def check_labels(self, outputs: Any, batch: Any, *, reads_values: bool) -> None:
        """Refuse targets that are not (N, K) of values in [0, 1].

        Raises:
            ValueError: If the shape does not fit, or a value lies outside.
        """
        shape, targets = tuple(logits_of(outputs).shape), batch[1]
        if tuple(targets.shape) != shape:
            raise ValueError(f"targets must be {shape} as the outputs, got {tuple(targets.shape)}")
        if reads_values and not bool(((targets >= 0) & (targets <= 1)).all()):
            raise ValueError("targets must lie in [0, 1], got others")

    def distill_loss(self, outputs: Any, teacher_outputs: Any, tau: float = 1.0) -> Tensor:
        """Divergence of each label's two outcomes from the teacher's, averaged like the loss.

        In nats, times the square of the temperature.

        Raises:
            TypeError: If outputs are not one tensor of logits.
            ValueError: If tau is not positive, or the numbers of labels differ.
        """
        if not tau > 0:
            raise ValueError(f"tau must be > 0, got {tau}")
        student = at_least_fp32(logits_of(outputs)) / tau
        teacher = at_least_fp32(logits_of(teacher_outputs)) / tau
        if student.shape != teacher.shape:
            raise ValueError(
                f"outputs and teacher_outputs must have one shape (N, K), got "
                f"{tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        share = teacher.sigmoid()
        yes = share * (F.logsigmoid(teacher) - F.logsigmoid(student))
        no = (1 - share) * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
        return (yes + no).mean() * tau**2

    def new_score(self) -> MeanAveragePrecision:
        """Start collecting scores."""
        return MeanAveragePrecision()

    def probabilities(self, outputs: Any) -> Tensor:
        """Share of each label (N, K), on its own."""
        return logits_of(outputs).float().sigmoid()

    def describe(self, outputs: Any, class_names: Sequence[str]) -> list[str]:
        """Labels with a share of at least a half, and the most likely one in any case."""
        lines = []
        for shares in self.probabilities(outputs):
            order = shares.argsort(descending=True).tolist()
            kept = [i for i in order if float(shares[i]) >= 0.5] or order[:1]
            parts = (f"{class_names[i]} {100 * float(shares[i]):.1f} %" for i in kept)
            lines.append(", ".join(parts))
        return lines


class MeanAveragePrecision(ScoreAccumulator):
    """Area under the precision-recall curve of each label, averaged over labels, in percent.

    Labels without a positive are left out. Logits that are not a number are the lowest. The
    standard error is that of resampled images.
    """

    def __init__(self) -> None:
        self._logits: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, outputs: Any, batch: Any) -> None:
        """Keep logits (N, K) and targets (N, K).

        Raises:
            TypeError: If outputs are not one tensor of logits.
            ValueError: If targets have another shape, or are not zeros and ones.
        """
        logits, targets = logits_of(outputs).float().cpu(), batch[1].cpu()
        if targets.shape != logits.shape or bool(((targets != 0) & (targets != 1)).any()):
            raise ValueError(
                f"targets must be zeros and ones {tuple(logits.shape)} to be scored by, got "
                f"{tuple(targets.shape)}, or shares of labels, which are for training alone"
            )
        self._logits.append(logits)
        self._targets.append(targets.long())

    def compute(self) -> Score:
        """Mean average precision over all batches so far.

        Raises:
            ValueError: If there were none, or no image carries a label.
        """
        if not self._logits:
            raise ValueError("a score needs at least one sample, got none. Is the data empty?")
        ranks, targets = _ranks(torch.cat(self._logits)), torch.cat(self._targets)
        if not bool(targets.any()):
            raise ValueError("mean average precision needs images that carry labels, got none")
        generator = torch.Generator().manual_seed(0)
        resampled = []
        for _ in range(_NUM_RESAMPLES):
            chosen = torch.randint(len(targets), (len(targets),), generator=generator)
            if bool(targets[chosen].any()):
                resampled.append(_average_precision(ranks[chosen], targets[chosen]))
        return Score(
            value=_average_precision(ranks, targets),
            standard_error=float(torch.tensor(resampled).std(correction=0)),
            num_samples=len(targets),
        )


def _ranks(logits: Tensor) -> Tensor:
    """Rank of each label's logits (N, K) among its images, in [0, 1), equal ones alike.

    The order of logits is all that counts, and large ones are not to tie as their sigmoids do.
    """
    ordered = torch.where(logits.isnan(), -torch.inf, logits)
    columns = [torch.unique(column, return_inverse=True)[1] for column in ordered.unbind(1)]
    return torch.stack(columns, dim=1).double() / len(logits)


def _average_precision(ranks: Tensor, targets: Tensor) -> float:
    present = targets.any(0)
    values = [
        float(binary_average_precision(ranks[:, label], targets[:, label]))
        for label in present.nonzero().flatten().tolist()
    ]
    return 100 * sum(values) / len(values)
