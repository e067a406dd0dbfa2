"""Scores of many sub-networks, and the query table made of scores and costs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mutualnet.calibrate import calibrate
from mutualnet.cost import CostModel, Latency, measure_latency
from mutualnet.precision import autocast_to
from mutualnet.processes import current_ranks, from_first, gather
from mutualnet.progress import WorkProgress
from mutualnet.selection import Selection
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable, Row
from mutualnet.tasks.base import Score, Task
from mutualnet.tasks.scaling import ScaledBatch

__all__ = [
    "build_table",
    "evaluate",
    "finished_table",
    "sample_scores",
    "score_here",
    "time_subnets",
]

logger = logging.getLogger(__name__)

CALIBRATION_WORK = 1.5
"""An image's pass in calibration, over one in scoring: batch statistics are made and pooled."""
_PASS_WORK = 16
"""A timed pass of one image, in passes of an image in a batch."""


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
        ValueError: If the task's score is not a mean over images.
    """
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
                    outputs = module(task.inputs(part))
                take(number, outputs, part)


def build_table(
    supernet: Supernet,
    *,
    task: Task,
    train_batches: Iterable[Any],
    select_batches: Iterable[Any],
    test_batches: Iterable[Any] | None,
    data_id: str,
    subnets: Sequence[Subnet] | None = None,
    num_calibration_samples: int = 2048,
    latency_runs: int = 30,
    autocast: torch.dtype | None = None,
    meta: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = logger.info,
    work: WorkProgress | None = None,
) -> QueryTable:
    """Calibrate, score and time every sub-network of the grid, and find the best per budget.

    The select batches alone choose the front; its rows are then scored once on the test split.
    Latency is that of the extracted sub-network, one image at a time. `race_table` makes nearly the
    same table in a fraction of the time.

    Args:
        supernet: The trained network. Its BN bank is filled for every row.
        task: Scales batches and keeps score.
        train_batches: For BN statistics, with training augmentation and of one size.
        select_batches: The split that chooses; `meta["select"]` tells where they are not held out.
        test_batches: The split that is reported, None if there is none.
        data_id: Hash that names the data.
        subnets: Which rows; by default the space's grid.
        num_calibration_samples: Images behind the BN statistics.
        latency_runs: Timed passes per row, 0 to leave latency out.
        autocast: Precision of all passes, None for the weights' own.
        meta: More about the table, as plain values.
        progress: Told what is being done, a line at a time.
        work: Told the same, with the work that it takes; by default hands lines to `progress`.
    """
    return finished_table(
        supernet,
        list(subnets if subnets is not None else supernet.space.grid()),
        costs=CostModel(supernet),
        task=task,
        train_batches=train_batches,
        select_batches=select_batches,
        test_batches=test_batches,
        data_id=data_id,
        num_calibration_samples=num_calibration_samples,
        latency_runs=latency_runs,
        autocast=autocast,
        meta=meta or {},
        work=work or WorkProgress(progress),
    )


def finished_table(
    supernet: Supernet,
    chosen: Sequence[Subnet],
    *,
    costs: CostModel,
    task: Task,
    train_batches: Iterable[Any],
    select_batches: Iterable[Any],
    test_batches: Iterable[Any] | None,
    data_id: str,
    num_calibration_samples: int,
    latency_runs: int,
    autocast: torch.dtype | None,
    meta: Mapping[str, Any],
    work: WorkProgress,
    dropped: Sequence[Row] = (),
) -> QueryTable:
    """The same for chosen sub-networks, with rows of others that were dropped before."""
    effort = _Effort(supernet, chosen, costs, task)
    calibrating = effort.all * CALIBRATION_WORK * num_calibration_samples
    scoring = effort.all * _num_images(select_batches)
    timing = effort.all * (_WARMUP + latency_runs) * _PASS_WORK if latency_runs else 0.0
    # How many of them will be the best for their cost is not known before they are scored.
    testing = effort.all * _num_images(test_batches) * min(1.0, (3 + len(chosen) / 8) / len(chosen))
    work.part(f"calibrating {len(chosen)} sub-networks", calibrating + scoring + timing + testing)
    calibrate(
        supernet,
        work.watch(train_batches, effort.of_batch(CALIBRATION_WORK * current_ranks().size)),
        chosen,
        task=task,
        data_id=data_id,
        num_samples=num_calibration_samples,
        autocast=autocast,
    )
    selection = Selection.of(meta)
    work.part(f"scoring {len(chosen)} sub-networks on {selection}", scoring + timing + testing)
    watched = work.watch(select_batches, effort.of_batch())
    scores = evaluate(supernet, watched, chosen, task=task, autocast=autocast)
    latencies: dict[Subnet, Latency] = {}
    if latency_runs:
        work.part(f"timing {len(chosen)} sub-networks", timing + testing)
        latencies = time_subnets(supernet, chosen, latency_runs, autocast)
        work.advance(timing)
    rows = [_row(subnet, scores[subnet], costs, latencies.get(subnet)) for subnet in chosen]
    about = {"score_name": task.score_name, "data_id": data_id, **meta}
    if latencies:
        about["latency"] = _circumstances(latencies)
    table = QueryTable.from_rows([*rows, *dropped], about)
    if test_batches is None:
        return table
    best = {row.subnet for row in table.front()}
    if latencies:
        best |= {row.subnet for row in table.front("latency_ms")}
    ordered = [subnet for subnet in chosen if subnet in best]
    effort = _Effort(supernet, ordered, costs, task)
    testing = effort.all * _num_images(test_batches)
    work.part(f"scoring the {len(ordered)} sub-networks of the front on the test split", testing)
    watched = work.watch(test_batches, effort.of_batch())
    tested = evaluate(supernet, watched, ordered, task=task, autocast=autocast)
    rescored = [
        replace(
            row,
            test_score=tested[row.subnet].value,
            test_standard_error=tested[row.subnet].standard_error,
        )
        if row.subnet in tested
        else row
        for row in table.rows
    ]
    return QueryTable.from_rows(rescored, about)


class _Effort:
    """What passes of some sub-networks cost, in multiply-adds; equal ones run once."""

    def __init__(
        self, supernet: Supernet, subnets: Sequence[Subnet], costs: CostModel, task: Task
    ) -> None:
        self.all = float(sum(map(costs.macs, supernet.distinct(subnets).values())))
        """Of one image."""
        self._task = task

    def of_batch(self, share: float = 1.0) -> Callable[[Any], float]:
        """What a batch costs, times a share."""
        return lambda batch: self.all * share * self._task.inputs(batch).shape[0]


def _num_images(batches: Iterable[Any] | None) -> int:
    """Images of a loader, and of a list of batches about; 0 if it does not tell."""
    data = getattr(batches, "dataset", None)
    if data is not None and hasattr(data, "__len__"):
        return len(data)
    return 0


def _row(subnet: Subnet, score: Score, costs: CostModel, latency: Latency | None) -> Row:
    return Row(
        subnet=subnet,
        score=score.value,
        standard_error=score.standard_error,
        num_samples=score.num_samples,
        macs=costs.macs(subnet),
        params=costs.params(subnet),
        latency_ms=latency.p50_ms if latency else None,
    )


def _circumstances(latencies: Mapping[Subnet, Latency]) -> dict[str, Any]:
    """How latencies were measured, and their tails."""
    one = asdict(next(iter(latencies.values())))
    kept = ("runs", "batch_size", "dtype", "device", "threads")
    return {name: one[name] for name in kept} | {
        "versions": dict(one["versions"]),
        "p90_ms": {str(s): round(t.p90_ms, 4) for s, t in latencies.items()},
        "p99_ms": {str(s): round(t.p99_ms, 4) for s, t in latencies.items()},
    }


_WARMUP = 5


def time_subnets(
    supernet: Supernet,
    subnets: Sequence[Subnet],
    runs: int,
    autocast: torch.dtype | None,
    *,
    warmup: int = _WARMUP,
) -> dict[Subnet, Latency]:
    """Latency of each extracted sub-network, one image at a time; equal ones are timed once.

    Of several processes the first works alone, since others at work beside it would slow what it
    times; all get the result.

    Args:
        supernet: Calibrated for the sub-networks.
        subnets: Which.
        runs: Timed passes.
        autocast: Precision of the passes, None for the weights' own.
        warmup: Passes before.
    """
    if not current_ranks().is_first:
        return from_first({})
    known: dict[Any, Latency] = {}
    for key, subnet in supernet.distinct(subnets).items():
        shape = (1, supernet.plan.input_channels, subnet.resolution, subnet.resolution)
        module = supernet.extract(subnet)
        known[key] = measure_latency(module, shape, warmup=warmup, runs=runs, autocast=autocast)
    return from_first({subnet: known[supernet.key(subnet)] for subnet in subnets})
