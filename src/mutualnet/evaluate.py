"""Scores of many sub-networks, and the query table made of scores and costs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from mutualnet.calibrate import calibrate
from mutualnet.cost import CostModel, Latency, measure_latency
from mutualnet.precision import autocast_to
from mutualnet.processes import current_ranks, from_first, gather
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable, Row
from mutualnet.tasks.base import Score, Task

__all__ = ["build_table", "evaluate", "score_here"]

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
    keys = {subnet: supernet.key(subnet) for subnet in subnets}
    ranks = current_ranks()
    first = {key: subnet for subnet, key in reversed(keys.items())}
    mine = list(first.values())[ranks.rank :: ranks.size]
    computed: dict[Any, Score] = {}
    for part in gather(score_here(supernet, batches, mine, task=task, autocast=autocast)):
        computed |= {supernet.key(subnet): score for subnet, score in part.items()}
    return {subnet: computed[key] for subnet, key in keys.items()}


def score_here(
    supernet: Supernet,
    batches: Iterable[Any],
    subnets: Sequence[Subnet],
    *,
    task: Task,
    autocast: torch.dtype | None = None,
) -> dict[Subnet, Score]:
    """The same in this process alone, for sub-networks of which no two are equal."""
    if not subnets:
        return {}
    first = {supernet.key(subnet): subnet for subnet in subnets}
    modules: dict[Any, nn.Module] = {k: supernet.subnet(s).eval() for k, s in first.items()}
    scores = {key: task.new_score() for key in modules}
    device = next(supernet.model.parameters()).device
    with torch.inference_mode():
        for batch in batches:
            batch = task.batch_to(batch, device)
            scaled: dict[int, Any] = {}
            for key, module in modules.items():
                if key.resolution not in scaled:
                    scaled[key.resolution] = task.scale(batch, first[key])
                part = scaled[key.resolution]
                with autocast_to(autocast, device):
                    outputs = module(task.inputs(part))
                scores[key].update(outputs, part)
    return {first[key]: score.compute() for key, score in scores.items()}


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
    progress: Callable[[str], None] = logger.info,
) -> QueryTable:
    """Calibrate, score and time every sub-network of the grid, and find the best per budget.

    The select split alone chooses the front; its rows are then scored once on the test split.
    Latency is that of the extracted sub-network, one image at a time.

    Args:
        supernet: The trained network. Its BN bank is filled for every row.
        task: Scales batches and keeps score.
        train_batches: For BN statistics, with training augmentation and of one size.
        select_batches: The split that chooses.
        test_batches: The split that is reported, None if there is none.
        data_id: Hash that names the data.
        subnets: Which rows; by default the space's grid.
        num_calibration_samples: Images behind the BN statistics.
        latency_runs: Timed passes per row, 0 to leave latency out.
        autocast: Precision of all passes, None for the weights' own.
        progress: Told what is being done, a line at a time.
    """
    ranks = current_ranks()
    chosen = list(subnets if subnets is not None else supernet.space.grid())
    costs = CostModel(supernet)
    progress(f"calibrating {len(chosen)} sub-networks")
    calibrate(
        supernet,
        train_batches,
        chosen,
        task=task,
        data_id=data_id,
        num_samples=num_calibration_samples,
        autocast=autocast,
    )
    progress(f"scoring {len(chosen)} sub-networks on the select split")
    scores = evaluate(supernet, select_batches, chosen, task=task, autocast=autocast)
    latencies: dict[Subnet, Latency] = {}
    if latency_runs:
        progress(f"timing {len(chosen)} sub-networks")
        # The first process alone: others at work beside it would slow what it times.
        latencies = _time(supernet, chosen, latency_runs, autocast) if ranks.is_first else {}
        latencies = from_first(latencies)
    rows = []
    for subnet in chosen:
        score = scores[subnet]
        latency = latencies.get(subnet)
        rows.append(
            Row(
                subnet=subnet,
                score=score.value,
                standard_error=score.standard_error,
                num_samples=score.num_samples,
                macs=costs.macs(subnet),
                params=costs.params(subnet),
                latency_ms=latency.p50_ms if latency else None,
            )
        )
    meta: dict[str, Any] = {"score_name": task.score_name, "data_id": data_id}
    if latencies:
        one = asdict(next(iter(latencies.values())))
        kept = ("runs", "batch_size", "dtype", "device", "threads")
        meta["latency"] = {name: one[name] for name in kept} | {"versions": dict(one["versions"])}
        meta["latency"]["p90_ms"] = {str(s): round(t.p90_ms, 4) for s, t in latencies.items()}
        meta["latency"]["p99_ms"] = {str(s): round(t.p99_ms, 4) for s, t in latencies.items()}
    table = QueryTable.from_rows(rows, meta)
    if test_batches is None:
        return table
    front = {row.subnet for row in table.front()}
    if latencies:
        front |= {row.subnet for row in table.front("latency_ms")}
    progress(f"scoring the {len(front)} sub-networks of the front on the test split")
    ordered = [subnet for subnet in chosen if subnet in front]
    tested = evaluate(supernet, test_batches, ordered, task=task, autocast=autocast)
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
    return QueryTable.from_rows(rescored, meta)


def _time(
    supernet: Supernet,
    subnets: Sequence[Subnet],
    runs: int,
    autocast: torch.dtype | None,
) -> dict[Subnet, Latency]:
    """Latency of each sub-network; equal ones are timed once."""
    known: dict[Any, Latency] = {}
    result = {}
    for subnet in subnets:
        key = supernet.key(subnet)
        if key not in known:
            module = supernet.extract(subnet)
            shape = (
                1,
                supernet.plan.input_channels,
                subnet.resolution,
                subnet.resolution,
            )
            known[key] = measure_latency(module, shape, runs=runs, autocast=autocast)
        result[subnet] = known[key]
    return result
