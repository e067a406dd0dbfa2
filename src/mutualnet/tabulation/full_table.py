"""The query table with every row finished: calibrated, scored and timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from mutualnet.calibration import calibrate
from mutualnet.cost import CostModel, Latency, measure_latency
from mutualnet.distributed import current_ranks, from_first
from mutualnet.evaluation import evaluate
from mutualnet.precision import ComputeFormat
from mutualnet.selection import Selection
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable, Row
from mutualnet.tabulation.inputs import TableInputs
from mutualnet.tasks.base import Score, Task

CALIBRATION_WORK = 1.5
"""An image's pass in calibration, over one in scoring: batch statistics are made and pooled."""
_PASS_WORK = 16
"""A timed pass of one image, in passes of an image in a batch."""


def build_table(supernet: Supernet, inputs: TableInputs) -> QueryTable:
    """Calibrate, score and time every sub-network of the grid, and find the best per budget.

    The select batches alone choose the front; its rows are then scored once on the test split.
    Latency is that of the extracted sub-network, one image at a time. `race_table` makes nearly the
    same table without finishing the rows that others stand in for.

    Args:
        supernet: The trained network. Its BN bank is filled for every row, and its model is left in
            the memory format of `inputs.scoring`.
        inputs: Data, rows and circumstances.
    """
    chosen = list(inputs.subnets if inputs.subnets is not None else supernet.space.grid())
    task, work, costs = inputs.task, inputs.work, CostModel(supernet)
    inputs.scoring.arrange(supernet.model)
    effort = Effort(supernet, chosen, costs, task)
    num_calibrating, num_select = inputs.num_calibration_samples, num_images(inputs.select_batches)
    later = effort.all * num_select + work_to_finish(effort, len(chosen), inputs)
    calibrating = effort.all * CALIBRATION_WORK * num_calibrating
    work.part(f"calibrating {len(chosen)} sub-networks", calibrating + later)
    calibrate(
        supernet,
        work.watch(inputs.train_batches, effort.of_batch(CALIBRATION_WORK * current_ranks().size)),
        chosen,
        task=task,
        data_id=inputs.data_id,
        num_samples=num_calibrating,
        autocast=inputs.scoring.autocast,
    )
    work.part(f"scoring {len(chosen)} sub-networks on {Selection.of(inputs.meta)}", later)
    watched = work.watch(inputs.select_batches, effort.of_batch())
    scores = evaluate(supernet, watched, chosen, task=task, autocast=inputs.scoring.autocast)
    rows = [row_of(subnet, scores[subnet], costs) for subnet in chosen]
    return finished_table(supernet, rows, inputs, costs=costs)


def finished_table(
    supernet: Supernet,
    rows: Sequence[Row],
    inputs: TableInputs,
    *,
    costs: CostModel,
    meta: Mapping[str, Any] | None = None,
) -> QueryTable:
    """Time scored rows, and score the best of them on the test split.

    Args:
        supernet: Calibrated for the finished rows.
        rows: Scored; dropped ones stay as they are.
        inputs: Data and circumstances.
        costs: Of the network.
        meta: More about the table than `inputs.meta`.
    """
    chosen = [row.subnet for row in rows if row.is_finished]
    task, work = inputs.task, inputs.work
    about = {
        "score_name": task.score_name,
        "data_id": inputs.data_id,
        "format": str(inputs.running),
        "scoring_format": str(inputs.scoring),
        **inputs.meta,
        **(meta or {}),
    }
    if inputs.latency_runs:
        effort = Effort(supernet, chosen, costs, task)
        left = work_to_finish(effort, len(chosen), inputs)
        work.part(f"timing {len(chosen)} sub-networks", left)
        latencies = time_subnets(
            supernet, chosen, inputs.latency_runs, inputs.running, task=inputs.task
        )
        work.advance(_timing(effort, inputs))
        rows = [
            replace(row, latency_ms=latencies[row.subnet].p50_ms) if row.is_finished else row
            for row in rows
        ]
        about["latency"] = _circumstances(latencies)
    table = QueryTable.from_rows(rows, about)
    if inputs.test_batches is None:
        return table
    best = {row.subnet for row in table.front()}
    if inputs.latency_runs:
        best |= {row.subnet for row in table.front("latency_ms")}
    ordered = [subnet for subnet in chosen if subnet in best]
    effort = Effort(supernet, ordered, costs, task)
    testing = effort.all * num_images(inputs.test_batches)
    work.part(f"scoring the {len(ordered)} sub-networks of the front on the test split", testing)
    watched = work.watch(inputs.test_batches, effort.of_batch())
    tested = evaluate(supernet, watched, ordered, task=task, autocast=inputs.scoring.autocast)
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


def work_to_finish(effort: Effort, num_subnets: int, inputs: TableInputs) -> float:
    """About what timing and testing will take, in multiply-adds."""
    # How many of them will be the best for their cost is not known before they are scored.
    share = min(1.0, (3 + num_subnets / 8) / num_subnets)
    return _timing(effort, inputs) + effort.all * num_images(inputs.test_batches) * share


def _timing(effort: Effort, inputs: TableInputs) -> float:
    return effort.all * (_WARMUP + inputs.latency_runs) * _PASS_WORK if inputs.latency_runs else 0.0


class Effort:
    """What passes of some sub-networks cost, in multiply-adds; equal ones run once."""

    def __init__(
        self, supernet: Supernet, subnets: Sequence[Subnet], costs: CostModel, task: Task
    ) -> None:
        self.all = float(sum(map(costs.macs, supernet.distinct(subnets).values())))
        """Of one image."""
        self._task = task

    def of_batch(self, share: float = 1.0) -> Callable[[Any], float]:
        """What a batch costs, times a share."""
        return lambda batch: self.all * share * self._task.num_samples(batch)


def num_images(batches: Iterable[Any] | None) -> int:
    """Images of a loader; 0 if it does not tell."""
    data = getattr(batches, "dataset", None)
    if data is not None and hasattr(data, "__len__"):
        return len(data)
    return 0


def row_of(subnet: Subnet, score: Score, costs: CostModel) -> Row:
    """A scored row with its counted costs."""
    return Row(
        subnet=subnet,
        score=score.value,
        standard_error=score.standard_error,
        num_samples=score.num_samples,
        macs=costs.macs(subnet),
        params=costs.params(subnet),
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
    running: ComputeFormat,
    *,
    task: Task,
    warmup: int = _WARMUP,
) -> dict[Subnet, Latency]:
    """Latency of each extracted sub-network, one image at a time; equal ones are timed once.

    Of several processes the first works alone, since others at work beside it would slow what it
    times; all get the result.

    Args:
        supernet: Calibrated for the sub-networks.
        subnets: Which.
        runs: Timed passes.
        running: What to compute in.
        task: Knows what to run on.
        warmup: Passes before.
    """
    if not current_ranks().is_first:
        return from_first({})
    known: dict[Any, Latency] = {}
    for key, subnet in supernet.distinct(subnets).items():
        inputs = task.example_inputs(supernet, subnet)
        module = supernet.extract(subnet)
        running.arrange(module)
        known[key] = measure_latency(
            module, inputs, warmup=warmup, runs=runs, autocast=running.autocast
        )
    return from_first({subnet: known[supernet.key(subnet)] for subnet in subnets})
