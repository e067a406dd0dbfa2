"""The query table by a race: sub-networks that others stand in for leave early."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mutualnet.calibration import calibrate
from mutualnet.cost import CostModel
from mutualnet.distributed import current_ranks
from mutualnet.evaluation import sample_scores
from mutualnet.precision import ComputeFormat
from mutualnet.selection import Selection
from mutualnet.space import Subnet
from mutualnet.supernet import BankKey, Supernet, temporary_bank
from mutualnet.table import QueryTable
from mutualnet.tabulation.full_table import (
    CALIBRATION_WORK,
    Effort,
    build_table,
    finished_table,
    row_of,
    time_subnets,
    work_to_finish,
)
from mutualnet.tabulation.inputs import TableInputs
from mutualnet.tabulation.race import Standing, race
from mutualnet.tasks.base import Score, Task

SelectPart = Callable[[int, int], Iterable[Any]]
"""Gives the select images from one place to before another as batches, in an order in which any
part is a fair sample."""

MOST_IMAGES = 10_000
"""Select images behind a score of a race, whose standard error is then at most 0.5 points."""
_LEAST_IMAGES = 100
"""After the first round; fewer say nothing."""
_SHARES = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
"""Of the images, after each round."""
_QUICK_RUNS, _QUICK_WARMUP = 5, 2
"""Passes behind the latencies of the race."""
_SAME_LATENCY = 1.1
"""Latencies from so few passes tell only larger ratios apart."""
_TRIAL_IMAGES = 300
"""Select images on which a number format is tried beside fp32."""
_TRIAL_CALIBRATION = 256
"""Training images behind the BN statistics of that trial."""
_TRIAL_ERRORS = 2.0
"""Standard errors by which a score may be lower there than in fp32."""


def round_stops(num_images: int) -> tuple[int, ...]:
    """Images after each round, of up to `MOST_IMAGES`."""
    total = min(num_images, MOST_IMAGES)
    stops = (min(total, max(_LEAST_IMAGES, math.ceil(share * total))) for share in _SHARES)
    return tuple(dict.fromkeys(stops))


def race_table(
    supernet: Supernet, inputs: TableInputs, *, select_part: SelectPart, num_select: int
) -> QueryTable:
    """Make the table, but leave early what others stand in for; see `build_table` for the rest.

    All sub-networks are calibrated, then scored on a growing share of the select split. After each
    round those stay that cover the others: for whatever leaves there is one that stays with no more
    multiply-adds, and one (it may be another) with no higher latency if that is measured, and
    neither scores less by more than a tolerance, beyond doubt. The rows that have run on all select
    images and still stay are timed as in `build_table`, and the best of them tested; the others are
    marked.

    Scores are computed in `inputs.scoring` if the largest and the smallest sub-network score no
    worse in it than in fp32, but for chance; else in fp32.

    A task whose score is not a mean over images gets the whole table, in `inputs.running`.

    Args:
        supernet: The trained network. Its BN bank is filled for every finished row.
        inputs: Data, rows and circumstances.
        select_part: Parts of the select images.
        num_select: Images of the select split, at least one. A score is over 10,000 of them at
            most.

    Raises:
        ValueError: If there is no select image.
    """
    if num_select < 1:
        raise ValueError(f"num_select must be >= 1, some images that choose, got {num_select}")
    if not _is_mean(inputs.task):
        name = inputs.task.score_name
        inputs.work.part(f"{name} is no mean over images: all rows are finished", 0)
        return build_table(supernet, replace(inputs, scoring=inputs.running))
    chosen = list(inputs.subnets if inputs.subnets is not None else supernet.space.grid())
    inputs.scoring.arrange(supernet.model)
    with temporary_bank(supernet) as bank:
        field = _Field(supernet, inputs, select_part, round_stops(num_select))
        # Equal sub-networks are one candidate.
        standings = field.run(list(supernet.distinct(chosen).values()))
    rows = []
    for subnet in chosen:
        key = supernet.key(subnet)
        standing, stand_in = standings[key]
        score = Score(
            value=standing.score,
            standard_error=standing.standard_error,
            num_samples=standing.num_images,
        )
        rows.append(replace(row_of(subnet, score, field.costs), dropped_for=stand_in))
        if stand_in is None and key in bank:
            supernet.bank.put(key, bank[key])
    about = {
        "images": list(field.stops),
        "num_dropped": sum(not row.is_finished for row in rows),
    }
    finished = replace(inputs, scoring=field.scoring)
    return finished_table(supernet, rows, finished, costs=field.costs, meta={"race": about})


class _Field:
    """The sub-networks of a race, and what it takes to run them."""

    def __init__(
        self,
        supernet: Supernet,
        inputs: TableInputs,
        select_part: SelectPart,
        stops: tuple[int, ...],
    ) -> None:
        self.costs, self.scoring, self.stops = CostModel(supernet), inputs.scoring, stops
        self._supernet, self._inputs, self._select_part = supernet, inputs, select_part

    def run(self, subnets: Sequence[Subnet]) -> dict[BankKey, tuple[Standing, Subnet | None]]:
        """How each came out, and the one among those left that stands in for it, if it left.

        Args:
            subnets: No two of them equal.
        """
        inputs, effort = self._inputs, self._effort(subnets)
        # Typically half of the work of all is run in the rounds, and a quarter of it is left.
        later = effort.all * self.stops[-1] / 2 + work_to_finish(effort, len(subnets), inputs) / 4
        num_samples = inputs.num_calibration_samples
        if self.scoring.autocast is not None:
            self._try_format(subnets, effort.all * CALIBRATION_WORK * num_samples + later)
        self._calibrate(subnets, num_samples, f"calibrating {len(subnets)} sub-networks", later)
        found = self._race(subnets, self._axes(subnets))
        standings: dict[BankKey, tuple[Standing, Subnet | None]] = {}
        for number, subnet in enumerate(subnets):
            last = number
            while (further := found[last].covered_by) is not None:
                last = further
            stand_in = None if last == number else subnets[last]
            standings[self._supernet.key(subnet)] = found[number], stand_in
        return standings

    def _effort(self, subnets: Sequence[Subnet]) -> Effort:
        return Effort(self._supernet, subnets, self.costs, self._inputs.task)

    def _calibrate(
        self, subnets: Sequence[Subnet], num_samples: int, line: str, later: float
    ) -> None:
        inputs, effort = self._inputs, self._effort(subnets)
        inputs.work.part(line, effort.all * CALIBRATION_WORK * num_samples + later)
        watched = inputs.work.watch(
            inputs.train_batches, effort.of_batch(CALIBRATION_WORK * current_ranks().size)
        )
        calibrate(
            self._supernet,
            watched,
            subnets,
            task=inputs.task,
            data_id=inputs.data_id,
            num_samples=num_samples,
            autocast=self.scoring.autocast,
        )

    def _scores(self, subnets: Sequence[Subnet], start: int, stop: int) -> np.ndarray:
        work, task = self._inputs.work, self._inputs.task
        batches = work.watch(self._select_part(start, stop), self._effort(subnets).of_batch())
        return sample_scores(
            self._supernet, batches, subnets, task=task, autocast=self.scoring.autocast
        )

    def _try_format(self, subnets: Sequence[Subnet], later: float) -> None:
        """Score in fp32 if the largest or the smallest scores less otherwise, by more than chance.

        `later` work follows.
        """
        ends = list({pick(subnets, key=self.costs.macs): None for pick in (max, min)})
        stop = min(_TRIAL_IMAGES, self.stops[-1])
        num_few = min(_TRIAL_CALIBRATION, self._inputs.num_calibration_samples)
        fast, plain = self.scoring, ComputeFormat("fp32", self.scoring.memory_format)
        scores = {}
        with temporary_bank(self._supernet):
            for tried in (plain, fast):
                self.scoring = tried
                self._calibrate(ends, num_few, f"trying how {tried} scores", later)
                scores[tried] = self._scores(ends, 0, stop)
        gain = scores[fast] - scores[plain]
        if np.any(gain.mean(1) < -_TRIAL_ERRORS * gain.std(1) / math.sqrt(stop)):
            self.scoring = plain
            self._inputs.work.part(f"scoring in {plain}, since {fast} scores worse", later)

    def _axes(self, subnets: Sequence[Subnet]) -> dict[Subnet, tuple[float, ...]]:
        """What each costs on every axis that a budget may be on."""
        axes: dict[Subnet, tuple[float, ...]] = {
            subnet: (float(self.costs.macs(subnet)),) for subnet in subnets
        }
        if not self._inputs.latency_runs:
            return axes
        quick = time_subnets(
            self._supernet,
            subnets,
            _QUICK_RUNS,
            self._inputs.running,
            task=self._inputs.task,
            warmup=_QUICK_WARMUP,
        )
        step = math.log(_SAME_LATENCY)
        return {
            s: (*axes[s], float(math.floor(math.log(t.p50_ms) / step))) for s, t in quick.items()
        }

    def _race(
        self, subnets: Sequence[Subnet], axes: Mapping[Subnet, tuple[float, ...]]
    ) -> tuple[Standing, ...]:
        work, selection = self._inputs.work, Selection.of(self._inputs.meta)

        def measure(candidates: Sequence[int], start: int, stop: int) -> np.ndarray:
            running = [subnets[number] for number in candidates]
            effort = self._effort(running)
            rest = effort.all * (self.stops[-1] - start)
            line = (
                f"racing {len(running)} sub-networks on {selection}, images {start + 1} to {stop}"
            )
            work.part(line, rest + work_to_finish(effort, len(running), self._inputs))
            return self._scores(running, start, stop)

        return race(measure, np.array([axes[subnet] for subnet in subnets]), self.stops)


def _is_mean(task: Task) -> bool:
    """Whether the task tells what each image adds to the score."""
    return type(task).sample_scores is not Task.sample_scores
