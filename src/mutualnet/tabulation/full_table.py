"""The query table with every row finished: calibrated, scored and timed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from mutualnet.calibration import calibrate
from mutualnet.cost import CostModel, Latency, measure_latency
from mutualnet.distributed import current_ranks, from_first
from mutualnet.evaluation import evaluate
from mutualnet.progress import WorkProgress
from mutualnet.selection import Selection
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable, Row
from mutualnet.tasks.base import Score, Task

logger = logging.getLogger(__name__)

CALIBRATION_WORK = 1.5
"""An image's pass in calibration, over one in scoring: batch statistics are made and pooled."""
_PASS_WORK = 16
"""A timed pass of one image, in passes of an image in a batch."""


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
    same table without finishing the rows that others beat.

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
        shape = supernet.plan.input_shape(subnet.resolution)
        module = supernet.extract(subnet)
        known[key] = measure_latency(module, shape, warmup=warmup, runs=runs, autocast=autocast)
    return from_first({subnet: known[supernet.key(subnet)] for subnet in subnets})
