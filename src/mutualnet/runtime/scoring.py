"""What configurations of an artifact score on labelled images, in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mutualnet.runtime.evaluation_images import EvaluationImages
from mutualnet.runtime.runner import AdaptiveRunner
from mutualnet.score import Score
from mutualnet.space import Subnet

_MAX_BYTES = 2**27
"""Of the inputs that are in memory at once."""
_MOST_AT_ONCE = 256
_NUM_RESAMPLES = 50
"""Bootstrap samples behind the standard error of a mean average precision."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What configurations scored on the images that could be read."""

    by_subnet: dict[Subnet, Score]
    damaged: tuple[str, ...]
    """Why an image was left out, for each that was."""


def score_images(
    runner: AdaptiveRunner,
    data: EvaluationImages,
    subnets: Sequence[Subnet],
    *,
    advance: Callable[[int], None] = lambda count: None,
    complain: Callable[[str], None] = lambda line: None,
) -> Scores:
    """Score configurations; each image is decoded once for all of them.

    Args:
        runner: Of the artifact. It keeps as many configurations loaded as it is allowed to.
        data: With labels for the artifact's classes.
        subnets: Which configurations.
        advance: Told how many more images are done.
        complain: Told of each image that cannot be read, at once.

    Returns:
        For one class each top-1 accuracy, for several labels mean average precision, in percent.

    Raises:
        ValueError: If no image can be read, or none carries a label.
        ArtifactError: If a graph does not run.
    """
    manifest = runner.artifact.manifest
    num_views = manifest.num_views
    at_once = _MAX_BYTES // (4 * num_views * math.prod(manifest.input_shape))
    at_once = max(1, runner.batch_size // num_views, min(_MOST_AT_ONCE, at_once))
    damaged: list[str] = []
    labels: list[np.ndarray] = []
    logits: dict[Subnet, list[np.ndarray]] = {subnet: [] for subnet in subnets}
    for start in range(0, len(data), at_once):
        positions = range(start, min(start + at_once, len(data)))
        inputs, kept = [], []
        for position in positions:
            try:
                inputs.append(runner.inputs(data.images[position]))
                kept.append(position)
            except ValueError as error:
                damaged.append(str(error))
                complain(damaged[-1])
        if kept:
            labels.append(data.labels[kept])
            batches = np.stack(inputs)
            for subnet in subnets:
                for first in range(0, len(batches), runner.batch_size):
                    batch = batches[first : first + runner.batch_size]
                    logits[subnet].append(_kept(runner.logits(batch, subnet), manifest.task))
        advance(len(positions))
    if not labels:
        raise ValueError(f"a score needs images that can be read, got none in {data.place}")
    truth = np.concatenate(labels)
    score = mean_average_precision if manifest.task == "multilabel" else top_one_accuracy
    return Scores(
        by_subnet={subnet: score(np.concatenate(found), truth) for subnet, found in logits.items()},
        damaged=tuple(damaged),
    )


def _kept(logits: np.ndarray, task: str) -> np.ndarray:
    """What a score needs of logits: the best class of each image (-1 if one is NaN), or all."""
    if task == "multilabel":
        return logits
    return np.where(np.isnan(logits).any(1), -1, logits.argmax(1))


def top_one_accuracy(predicted: np.ndarray, labels: np.ndarray) -> Score:
    """Share of images whose class has the highest logit, in percent.

    The standard error is that of a binomial share, 100 sqrt(p (1 - p) / n).

    Args:
        predicted: Class numbers (N), -1 for none.
        labels: Class numbers (N).
    """
    count = len(labels)
    share = int((predicted == labels).sum()) / count
    return Score(
        value=100 * share,
        standard_error=100 * (share * (1 - share) / count) ** 0.5,
        num_samples=count,
    )


def mean_average_precision(logits: np.ndarray, labels: np.ndarray) -> Score:
    """Area under the precision-recall curve of each label, averaged over labels, in percent.

    Labels without a positive are left out. Logits that are not a number are the lowest. The
    standard error is that of resampled images.

    Args:
        logits: float32 (N, K).
        labels: Zeros and ones (N, K).

    Raises:
        ValueError: If no image carries a label.
    """
    labels = labels.astype(bool)
    if not labels.any():
        raise ValueError("mean average precision needs images that carry labels, got none")
    # Not their sigmoids, which are all 1 above 17 or so.
    logits = np.where(np.isnan(logits), -np.inf, logits)
    rng = np.random.default_rng(0)
    resampled = []
    for _ in range(_NUM_RESAMPLES):
        chosen = rng.integers(len(labels), size=len(labels))
        if labels[chosen].any():
            resampled.append(_mean_average_precision(logits[chosen], labels[chosen]))
    return Score(
        value=_mean_average_precision(logits, labels),
        standard_error=float(np.std(resampled)),
        num_samples=len(labels),
    )


def _mean_average_precision(logits: np.ndarray, labels: np.ndarray) -> float:
    present = np.flatnonzero(labels.any(0))
    return 100 * float(np.mean([_average_precision(logits[:, k], labels[:, k]) for k in present]))


def _average_precision(logits: np.ndarray, is_positive: np.ndarray) -> float:
    """Precision at each threshold, weighted by what it adds to recall; ties are one threshold."""
    order = np.argsort(-logits, kind="stable")
    logits, hits = logits[order], is_positive[order].cumsum()
    # Not their differences: two infinities have none.
    ends = np.append(np.flatnonzero(logits[1:] != logits[:-1]), len(logits) - 1)
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())
