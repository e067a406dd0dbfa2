"""Trying sub-networks: fresh BN statistics, a score on some images, and a count of all tries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mutualnet.calibration import calibrate
from mutualnet.cost import CostModel
from mutualnet.evaluation import evaluate
from mutualnet.search.choices import Choices, Point
from mutualnet.space import Subnet
from mutualnet.supernet import BankKey, Supernet, temporary_bank
from mutualnet.tasks.base import Task


class NoEvaluationsLeftError(Exception):
    """A search has tried as many sub-networks as it may."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A sub-network that was tried."""

    subnet: Subnet
    macs: int
    score: float
    """On the images of the search, in the task's unit."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"subnet": self.subnet.to_dict(), "macs": self.macs, "score": self.score}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evaluation:
        """Read back what `to_dict` wrote."""
        return cls(
            subnet=Subnet.from_dict(values["subnet"]), macs=values["macs"], score=values["score"]
        )


class Trials:
    """Tries points of the choices, each network once.

    Args:
        supernet: Its BN bank is left as it is.
        choices: What points mean.
        task: Scales batches and keeps score.
        train_batches: For BN statistics; read again for every round.
        select_batches: What scores; read again for every round.
        num_calibration_samples: Images behind the BN statistics of a try.
        autocast: Precision of all passes, None for the weights' own.
        most: Networks that may be tried in all.
        known: What was tried before; it counts once it is asked for, and is not run again.
        save: Called after each round with all that was tried so far.
    """

    def __init__(
        self,
        supernet: Supernet,
        choices: Choices,
        *,
        task: Task,
        train_batches: Iterable[Any],
        select_batches: Iterable[Any],
        num_calibration_samples: int,
        autocast: torch.dtype | None,
        most: int,
        known: Iterable[Evaluation],
        save: Callable[[Sequence[Evaluation]], None],
    ) -> None:
        self.supernet, self.choices, self.most = supernet, choices, most
        self._task, self._autocast = task, autocast
        self._train, self._select = train_batches, select_batches
        self._num_calibration_samples = num_calibration_samples
        self._known = {supernet.key(found.subnet): found for found in known}
        self._save = save
        self._costs = CostModel(supernet)
        self._networks: dict[Point, tuple[BankKey, int]] = {}  # searches ask for a point often
        self.tried: dict[BankKey, Evaluation] = {}

    def macs(self, point: Point) -> int:
        """Multiply-adds of a point, without a try."""
        return self._network(point)[1]

    def key(self, point: Point) -> BankKey:
        """Equal for points that are the same network."""
        return self._network(point)[0]

    def _network(self, point: Point) -> tuple[BankKey, int]:
        found = self._networks.get(point)
        if found is None:
            subnet = self.choices.subnet(point)
            found = self.supernet.key(subnet), self._costs.macs(subnet)
            self._networks[point] = found
        return found

    def __call__(self, points: Sequence[Point]) -> list[Evaluation]:
        """Try points.

        Raises:
            NoEvaluationsLeftError: If not all may be tried; those that may have been.
        """
        asked = self.supernet.distinct(self.choices.subnet(point) for point in points)
        new = {key: subnet for key, subnet in asked.items() if key not in self.tried}
        allowed = dict(list(new.items())[: self.most - len(self.tried)])
        run = {key: subnet for key, subnet in allowed.items() if key not in self._known}
        if run:
            self._known |= self._run(run)
        self.tried |= {key: self._known[key] for key in allowed}
        if run:
            self._save(tuple(self.tried.values()))
        if len(allowed) < len(new):
            raise NoEvaluationsLeftError
        return [self.tried[self.key(point)] for point in points]

    def _run(self, subnets: dict[BankKey, Subnet]) -> dict[BankKey, Evaluation]:
        supernet, chosen = self.supernet, list(subnets.values())
        with temporary_bank(supernet):
            calibrate(
                supernet,
                self._train,
                chosen,
                task=self._task,
                data_id="search",
                num_samples=self._num_calibration_samples,
                autocast=self._autocast,
            )
            scores = evaluate(
                supernet, self._select, chosen, task=self._task, autocast=self._autocast
            )
        return {
            key: Evaluation(
                subnet=subnet, macs=self._costs.macs(subnet), score=scores[subnet].value
            )
            for key, subnet in subnets.items()
        }
