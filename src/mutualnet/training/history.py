"""What a run measures, epoch by epoch: means of its losses, and the scores on the way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class SubnetScore:
    """The score of the largest or the smallest sub-network of one network."""

    network: int
    """Its index among those that train."""
    role: str
    """`largest` or `smallest`."""
    subnet: str
    value: float
    """In the unit of the task's score."""
    standard_error: float
    """Of the value, in the same unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """Scores of a run's networks at the end of one epoch, and what they were taken on."""

    epoch: int
    """From 1."""
    split: str
    """Name of the split that was scored."""
    score_name: str
    num_images: int
    """Images that were scored."""
    num_available: int
    """Images of the split."""
    num_calibration_samples: int
    """Training images behind the BN statistics; 0 where the full network's own served."""
    seconds: float
    """What it took."""
    scores: tuple[SubnetScore, ...]
    input_kind: str = "image"
    """What was scored: `num_images` of them."""

    def columns(self) -> dict[str, float]:
        """The values by the names they have in tables of all epochs."""
        is_alone = all(score.network == 0 for score in self.scores)
        return {
            f"{self.split}_{'' if is_alone else f'{score.network + 1}_'}{score.role}": score.value
            for score in self.scores
        }

    def shortly(self) -> str:
        """The values alone, such as `select 93.1 / 80.4`."""
        return f"{self.split} {' / '.join(f'{score.value:.1f}' for score in self.scores)}"

    def of_network(self, index: int) -> dict[str, Any]:
        """What the finished run of one network keeps, as plain values."""
        about = {key: value for key, value in asdict(self).items() if key != "scores"}
        return about | {
            score.role: {
                "subnet": score.subnet,
                "value": score.value,
                "standard_error": score.standard_error,
            }
            for score in self.scores
            if score.network == index
        }


class History:
    """One row of means for each epoch, and the sums of the one that is under way."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        """Of the epochs that have ended, the oldest first."""
        self.validation: Validation | None = None
        """The latest scores."""
        self._sums: dict[str, Tensor | float] = {}
        self._num_images = 0
        self._seconds = 0.0
        self._clock: float | None = None

    def start_clock(self) -> None:
        """Count time to the epoch from now on."""
        self._clock = time.perf_counter()

    def add(self, losses: Mapping[str, Tensor], num_images: int) -> None:
        """Count a step.

        Args:
            losses: Scalars by name, averaged over the images of the step. Those on an accelerator
                stay there.
            num_images: Of the step, over all processes.
        """
        for name, loss in losses.items():
            # float64, in which the order of so few additions leaves no trace that would matter
            self._sums[name] = loss.detach().double() * num_images + self._sums.get(name, 0.0)
        self._num_images += num_images

    def means(self) -> dict[str, float]:
        """Every loss, averaged over the images that the epoch has seen so far."""
        return {name: float(total) / self._num_images for name, total in self._sums.items()}

    def last_losses(self) -> dict[str, float]:
        """Means of the losses over the last epoch that has ended; none before."""
        rows = self.rows[-1:]
        return {n: v for row in rows for n, v in row.items() if n.startswith(("ce_", "kl_"))}

    def end_epoch(self, epoch: int, step: int, rates: Mapping[str, float]) -> None:
        """Close the row of an epoch.

        Args:
            epoch: From 1.
            step: Steps done.
            rates: Learning rates by name.
        """
        seconds = self._seconds_so_far()
        self.rows.append(
            {
                "epoch": epoch,
                "step": step,
                **rates,
                **self.means(),
                "seconds": seconds,
                "images_per_s": self._num_images / seconds if seconds else 0.0,
            }
        )
        self._sums, self._num_images, self._seconds = {}, 0, 0.0
        self.start_clock()

    def add_validation(self, validation: Validation) -> None:
        """Put scores into the row of the epoch that has just ended; their time is not its time."""
        self.validation = validation
        self.rows[-1] |= validation.columns() | {"watch_seconds": validation.seconds}
        self.start_clock()

    def watch_share(self) -> float:
        """Time that validation took, as a share of that of training."""
        training = sum(row["seconds"] for row in self.rows)
        return sum(row.get("watch_seconds", 0.0) for row in self.rows) / training

    def _seconds_so_far(self) -> float:
        running = 0.0 if self._clock is None else time.perf_counter() - self._clock
        return self._seconds + running

    def state(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {
            "rows": [dict(row) for row in self.rows],
            "look": None if self.validation is None else _plain(self.validation),
            "sums": {name: float(total) for name, total in self._sums.items()},
            "num_images": self._num_images,
            "seconds": self._seconds_so_far(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state()` gave."""
        self.rows = [dict(row) for row in state["rows"]]
        validation = state["look"]
        if validation is not None:
            scores = tuple(SubnetScore(**score) for score in validation["scores"])
            self.validation = Validation(**{**validation, "scores": scores})
        self._sums = dict(state["sums"])
        self._num_images, self._seconds = state["num_images"], state["seconds"]


def _plain(validation: Validation) -> dict[str, Any]:
    return {**asdict(validation), "scores": [asdict(score) for score in validation.scores]}
