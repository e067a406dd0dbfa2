"""The query table by a race: sub-networks that others beat leave early, the rest are finished."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from mutualnet.calibration import calibrate
from mutualnet.cost import CostModel
from mutualnet.distributed import current_ranks
from mutualnet.evaluation import sample_scores
from mutualnet.progress import WorkProgress
from mutualnet.space import Subnet
from mutualnet.supernet import BNBank, Supernet
from mutualnet.table import QueryTable, Row
from mutualnet.tabulation.full_table import CALIBRATION_WORK, finished_table, time_subnets
from mutualnet.tabulation.race import RaceResult, race
from mutualnet.tasks.base import Task

logger = logging.getLogger(__name__)

_SHARES = (0.05, 0.1, 0.2, 0.3)
"""Of the select images that have been scored after each round."""
_LEAST_IMAGES = 100
"""In a round; fewer say nothing."""
_NUM_PROVISIONAL = 256
"""Training images behind the BN statistics of the race."""
_QUICK_RUNS, _QUICK_WARMUP = 5, 2
"""Passes behind the latencies of the race."""
_SAME_LATENCY = 1.1
"""Latencies from so few passes tell only larger ratios apart."""


def race_ends(num_images: int) -> tuple[int, ...]:
    """Images scored after each round of a race: growing shares, at least 100 where there are."""
    ends = {min(num_images, max(_LEAST_IMAGES, math.ceil(s * num_images))) for s in _SHARES}
    return tuple(sorted(ends))


def race_table(
    supernet: Supernet,
    *,
    task: Task,
    train_batches: Iterable[Any],
    select_part: Callable[[int, int], Iterable[Any]],
    select_batches: Iterable[Any],
    test_batches: Iterable[Any] | None,
    data_id: str,
    num_select: int,
    subnets: Sequence[Subnet] | None = None,
    num_calibration_samples: int = 2048,
    latency_runs: int = 30,
    autocast: torch.dtype | None = None,
    meta: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = logger.info,
    work: WorkProgress | None = None,
) -> QueryTable:
    """Make the table, but leave early what others beat; see `build_table` for the rest.

    All sub-networks are scored on a small, growing share of the select split, with BN statistics
    from a few training images that are not kept. One is dropped when another has no more
    multiply-adds, and one (it may be a third) no higher latency if that is measured, and both score
    better beyond the standard error of the difference on the same images. What is left, the front
    and its neighbours, is calibrated, scored and timed as in `build_table`; the dropped rows are
    marked.

    A task whose score is not a mean over images gets the whole table.

    Args:
        supernet: The trained network. Its BN bank is filled for every finished row.
        task: Scales batches and keeps score.
        train_batches: For BN statistics, with training augmentation and of one size; read twice.
        select_part: Gives the select images from one place to before another as batches, in an
            order in which any part is a fair sample.
        select_batches: The whole split that chooses.
        test_batches: The split that is reported, None if there is none.
        data_id: Hash that names the data.
        num_select: Images of the select split.
        subnets: Which rows; by default the space's grid.
        num_calibration_samples: Images behind the BN statistics of finished rows.
        latency_runs: Timed passes per finished row, 0 to leave latency out of the race as well.
        autocast: Precision of all passes, None for the weights' own.
        meta: More about the table, as plain values.
        progress: Told what is being done, a line at a time.
        work: Told the same, with the work that it takes; by default hands lines to `progress`.
    """
    chosen = list(subnets if subnets is not None else supernet.space.grid())
    costs, work = CostModel(supernet), work or WorkProgress(progress)
    about = dict(meta or {})
    dropped: list[Row] = []
    if not _is_mean(task):
        work.part(f"{task.score_name} is no mean over images: all rows are finished", 0)
    else:
        # Equal sub-networks are one candidate.
        distinct = list(supernet.distinct(chosen).values())
        macs = {subnet: float(costs.macs(subnet)) for subnet in distinct}
        finishing = CALIBRATION_WORK * num_calibration_samples + num_select
        later = sum(macs.values()) * finishing / 2
        with _provisional_bank(supernet):
            found = _race(
                supernet,
                distinct,
                macs,
                task=task,
                train_batches=train_batches,
                select_part=select_part,
                ends=race_ends(num_select),
                num_provisional=min(_NUM_PROVISIONAL, num_calibration_samples),
                is_timed=latency_runs > 0,
                autocast=autocast,
                work=work,
                later=later,
            )
        number_of = {supernet.key(subnet): number for number, subnet in enumerate(distinct)}
        for subnet in chosen:
            if left := found.exits.get(number_of[supernet.key(subnet)]):
                row = Row(
                    subnet=subnet,
                    score=left.score,
                    standard_error=left.standard_error,
                    num_samples=left.num_images,
                    macs=costs.macs(subnet),
                    params=costs.params(subnet),
                    dropped_for=distinct[left.beaten_by],
                )
                dropped.append(row)
        about["race"] = {"images": list(race_ends(num_select)), "num_dropped": len(dropped)}
    gone = {row.subnet for row in dropped}
    return finished_table(
        supernet,
        [subnet for subnet in chosen if subnet not in gone],
        costs=costs,
        task=task,
        train_batches=train_batches,
        select_batches=select_batches,
        test_batches=test_batches,
        data_id=data_id,
        num_calibration_samples=num_calibration_samples,
        latency_runs=latency_runs,
        autocast=autocast,
        meta=about,
        work=work,
        dropped=dropped,
    )


def _race(
    supernet: Supernet,
    distinct: Sequence[Subnet],
    macs: Mapping[Subnet, float],
    *,
    task: Task,
    train_batches: Iterable[Any],
    select_part: Callable[[int, int], Iterable[Any]],
    ends: Sequence[int],
    num_provisional: int,
    is_timed: bool,
    autocast: torch.dtype | None,
    work: WorkProgress,
    later: float,
) -> RaceResult:
    """Calibrate provisionally, time quickly, and race; `later` is the work that follows."""
    all_macs, num_ranks = sum(macs.values()), current_ranks().size
    ahead = all_macs * ends[-1] / 2 + later

    def of_batch(effort: float) -> Callable[[Any], float]:
        return lambda batch: effort * task.inputs(batch).shape[0]

    calibrating = all_macs * CALIBRATION_WORK
    work.part(f"racing {len(distinct)} sub-networks", calibrating * num_provisional + ahead)
    calibrate(
        supernet,
        work.watch(train_batches, of_batch(calibrating * num_ranks)),
        distinct,
        task=task,
        data_id="provisional",
        num_samples=num_provisional,
        autocast=autocast,
    )
    axes = [[macs[subnet] for subnet in distinct]]
    if is_timed:
        quick = time_subnets(supernet, distinct, _QUICK_RUNS, autocast, warmup=_QUICK_WARMUP)
        medians = np.array([quick[subnet].p50_ms for subnet in distinct])
        axes.append(np.floor(np.log(medians) / np.log(_SAME_LATENCY)).tolist())

    def measure(candidates: Sequence[int], start: int, stop: int) -> np.ndarray:
        running = [distinct[number] for number in candidates]
        effort = sum(macs[subnet] for subnet in running)
        rest = effort * max(0, ends[-1] - start)
        left = f"{len(running)} on images {start + 1} to {stop}"
        work.part(f"racing sub-networks: {left}", rest + later * effort / all_macs)
        batches = work.watch(select_part(start, stop), of_batch(effort))
        return sample_scores(supernet, batches, running, task=task, autocast=autocast)

    return race(measure, np.array(axes).T, ends)


def _is_mean(task: Task) -> bool:
    """Whether the task tells what each image adds to the score."""
    return type(task).sample_scores is not Task.sample_scores


@contextmanager
def _provisional_bank(supernet: Supernet) -> Iterator[None]:
    """Keep BN statistics that are made inside the block out of the network's bank."""
    kept, supernet.bank = supernet.bank, BNBank()
    try:
        yield
    finally:
        supernet.bank = kept
