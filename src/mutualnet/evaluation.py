"""Scores of many sub-networks from one reading of the images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mutualnet.distributed import current_ranks, gather
from mutualnet.precision import autocast_to
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from mutualnet.tasks.base import Score, Task
from mutualnet.tasks.scaling import ScaledBatch

logger = logging.getLogger(__name__)


def evaluate(
    supernet: Supernet,
    batches: Iterable[Any],
    subnets: Sequence[Subnet],
    *,
    task: Task,
    autocast: torch.dtype | None = None,
) -> dict[Subnet, Score]:
    """Score sub-networks in eval mode, loading each batch once for all of them.

    Of several processes each scores a part of the sub-networks, and all get all scores.

    Args:
        supernet: Its bank must hold fresh BN statistics of every sub-network.
        batches: At the top resolution; the same in every process.
        subnets: Which sub-networks. Equal ones (the same channels and resolution) run once.
        task: Scales batches and keeps score.
        autocast: Precision of the forward passes, None for the weights' own.

    Raises:
        MissingStatisticsError: If a sub-network is not calibrated.
        ValueError: If there is no batch.
    """
    ranks = current_ranks()
    mine = list(supernet.distinct(subnets).values())[ranks.rank :: ranks.size]
    computed: dict[Any, Score] = {}
    for part in gather(score_here(supernet, batches, mine, task=task, autocast=autocast)):
        computed |= {supernet.key(subnet): score for subnet, score in part.items()}
    return {subnet: computed[supernet.key(subnet)] for subnet in subnets}


def score_here(
    supernet: Supernet,
    batches: Iterable[Any],
    subnets: Sequence[Subnet],
    *,
    task: Task,
    autocast: torch.dtype | None = None,
) -> dict[Subnet, Score]:
    """Score sub-networks in this process alone.

    Args:
        supernet: Its bank must hold fresh BN statistics of every sub-network.
        batches: At the top resolution.
        subnets: Which sub-networks, no two of them equal.
        task: Scales batches and keeps score.
        autocast: Precision of the forward passes, None for the weights' own.

    Raises:
        MissingStatisticsError: If a sub-network is not calibrated.
        ValueError: If there is no batch.
    """
    scores = [task.new_score() for _ in subnets]

    def count(number: int, outputs: Any, part: Any) -> None:
        scores[number].update(outputs, part)

    _run(supernet, batches, subnets, task, autocast, count)
    return {subnet: score.compute() for subnet, score in zip(subnets, scores, strict=True)}


def sample_scores(
    supernet: Supernet,
    batches: Iterable[Any],
    subnets: Sequence[Subnet],
    *,
    task: Task,
    autocast: torch.dtype | None = None,
) -> np.ndarray:
    """What each image adds to the score of each sub-network; the mean over images is the score.

    Of several processes each runs a part of the sub-networks, and all get everything.

    Args:
        supernet: Its bank must hold fresh BN statistics of every sub-network.
        batches: At the top resolution; the same in every process, at least one.
        subnets: At least one, no two of them equal.
        task: Scales batches and scores images.
        autocast: Precision of the forward passes, None for the weights' own.

    Returns:
        (M, N) float64 for M sub-networks and N images, in the score's unit.

    Raises:
        MissingStatisticsError: If a sub-network is not calibrated.
        ValueError: If the task's score is not a mean over images, or there is no sub-network or no
            batch.
    """
    if not subnets:
        raise ValueError("subnets must hold at least one sub-network, got none")
    ranks = current_ranks()
    mine = list(range(len(subnets)))[ranks.rank :: ranks.size]
    found: dict[int, list[Tensor]] = {number: [] for number in mine}

    def keep(place: int, outputs: Any, part: Any) -> None:
        scores = task.sample_scores(outputs, part)
        if scores is None:
            raise ValueError(
                f"{task.score_name} must be a mean over images to compare them one by one"
            )
        found[mine[place]].append(scores)

    _run(supernet, batches, [subnets[number] for number in mine], task, autocast, keep)
    if not all(found.values()):
        raise ValueError("a score needs at least one sample, got none. Is the data empty?")
    own = {number: torch.cat(parts).double().cpu().numpy() for number, parts in found.items()}
    rows = {number: row for part in gather(own) for number, row in part.items()}
    return np.stack([rows[number] for number in range(len(subnets))])


def _run(
    supernet: Supernet,
    batches: Iterable[Any],
    subnets: Sequence[Subnet],
    task: Task,
    autocast: torch.dtype | None,
    take: Callable[[int, Any, Any], None],
) -> None:
    """Run sub-networks in eval mode on each batch, which is loaded and scaled once for all.

    `take` gets the number of a sub-network, its outputs and the scaled batch.
    """
    if not subnets:
        return
    modules: list[nn.Module] = [supernet.subnet(subnet).eval() for subnet in subnets]
    device = next(supernet.model.parameters()).device
    with torch.inference_mode():
        for batch in batches:
            scaled = ScaledBatch(task, task.batch_to(batch, device))
            for number, (subnet, module) in enumerate(zip(subnets, modules, strict=True)):
                part = scaled.at(subnet)
                with autocast_to(autocast, device):
                    outputs = task.run(module, part)
                take(number, outputs, part)
