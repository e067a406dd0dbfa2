"""What a query table is made from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mutualnet.precision import PLAIN, ComputeFormat
from mutualnet.progress import WorkProgress
from mutualnet.space import Subnet
from mutualnet.tasks.base import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TableInputs:
    """The data, the rows and the circumstances of a query table.

    Raises:
        ValueError: If `latency_runs` is negative, or `subnets` names none, or one of them twice.
    """

    task: Task
    """Scales batches and keeps score."""
    train_batches: Iterable[Any]
    """For BN statistics, with training augmentation and of one size; a race reads them again."""
    select_batches: Iterable[Any]
    """The split that chooses; `meta["select"]` tells where it is not held out."""
    test_batches: Iterable[Any] | None
    """The split that is reported, None if there is none."""
    data_id: str
    """Hash that names the data."""
    subnets: Sequence[Subnet] | None = None
    """Which rows; by default the space's grid."""
    num_calibration_samples: int = 2048
    """Images behind the BN statistics of a finished row."""
    latency_runs: int = 30
    """Timed passes per finished row, 0 to leave latency out."""
    scoring: ComputeFormat = PLAIN
    """What statistics and scores are computed in."""
    running: ComputeFormat = PLAIN
    """What latencies are measured in, and what predictions should be computed in."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """More about the table, as plain values."""
    work: WorkProgress = field(default_factory=lambda: WorkProgress(logger.info))
    """Told what is being done, and the work that it takes."""

    def __post_init__(self) -> None:
        if self.latency_runs < 0:
            raise ValueError(f"latency_runs must be >= 0, got {self.latency_runs}")
        if self.subnets is None:
            return
        if not self.subnets:
            raise ValueError(
                "subnets must name at least one sub-network, got none. Leave them out for the grid."
            )
        seen: set[Subnet] = set()
        for subnet in self.subnets:
            if subnet in seen:
                raise ValueError(f"subnets must name each sub-network once, got {subnet} again")
            seen.add(subnet)
