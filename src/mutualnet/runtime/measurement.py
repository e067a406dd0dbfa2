"""How long every configuration of an artifact takes on this device."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

from mutualnet.numbers import in_digits
from mutualnet.runtime.artifact import Artifact
from mutualnet.runtime.device import device_name, num_cores
from mutualnet.runtime.sessions import load_session, run_session
from mutualnet.space import Subnet
from mutualnet.table import QueryTable, Row

_RUNS_PER_VISIT, _WARM_UP = 5, 2
_CLEARLY = 1.05
"""How many times longer one must take to be called slower; less is noise."""


@dataclass(frozen=True, kw_only=True)
class LatencyPercentiles:
    """Times of one configuration, in ms for a batch."""

    subnet: Subnet
    p50: float
    p90: float
    p99: float


def measure(
    artifact: Artifact,
    *,
    threads: int = 1,
    batch_size: int = 1,
    runs: int = 50,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[LatencyPercentiles, ...]:
    """Time every configuration on this device.

    All are loaded, and visited again and again in random order, so that a device that slows down
    or warms up meanwhile does so for all alike. A visit begins with runs that are not counted. What
    is timed is the graph with its resize, not the decoding of images.

    Args:
        artifact: What to time.
        threads: That an inference uses.
        batch_size: Images of an inference.
        runs: Timed inferences of each configuration, rounded up to whole visits.
        clock: Seconds.

    Raises:
        ValueError: If a number is below 1, or a graph takes batches of another size only.
        ArtifactError: If a graph does not run.
    """
    for name, value in (("threads", threads), ("batch_size", batch_size), ("runs", runs)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    manifest = artifact.manifest
    for configuration in manifest.configurations:
        if configuration.batch_size not in (None, batch_size):
            raise ValueError(
                f"batch_size must be {configuration.batch_size} for {configuration.subnet}, which "
                f"takes no other, got {batch_size}"
            )
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch_size, *manifest.input_shape)).astype(np.float32)
    sessions = [load_session(artifact, c, threads) for c in manifest.configurations]
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(-(-runs // _RUNS_PER_VISIT)):
        for position in rng.permutation(len(sessions)):
            session, configuration = sessions[position], manifest.configurations[position]
            for run in range(_WARM_UP + _RUNS_PER_VISIT):
                start = clock()
                run_session(artifact, configuration, session, images)
                if run >= _WARM_UP:
                    times[position].append(1e3 * (clock() - start))
    return tuple(
        LatencyPercentiles(
            subnet=configuration.subnet,
            **{f"p{p}": float(np.percentile(measured, p)) for p in (50, 90, 99)},
        )
        for configuration, measured in zip(manifest.configurations, times, strict=True)
    )


def with_latencies(
    artifact: Artifact,
    latencies: tuple[LatencyPercentiles, ...],
    *,
    threads: int,
    batch_size: int,
    runs: int,
) -> QueryTable:
    """The artifact's table with what was measured here, and where and how.

    Args:
        artifact: That was measured.
        latencies: Of every configuration.
        threads: As they were measured.
        batch_size: As they were measured.
        runs: As they were measured.
    """
    import onnxruntime

    by_subnet = {latency.subnet: latency for latency in latencies}
    about: dict[str, Any] = {
        "device": device_name(),
        "cores": num_cores(),
        "system": platform.platform(),
        "onnxruntime": onnxruntime.__version__,
        "threads": threads,
        "batch_size": batch_size,
        "runs": runs,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "percentiles_ms": {
            str(row.subnet): {
                "p50": round(by_subnet[row.subnet].p50, 4),
                "p90": round(by_subnet[row.subnet].p90, 4),
                "p99": round(by_subnet[row.subnet].p99, 4),
            }
            for row in artifact.table.rows
        },
    }
    rows = [replace(row, latency_ms=by_subnet[row.subnet].p50) for row in artifact.table.rows]
    return QueryTable.from_rows(rows, {**artifact.table.meta, "latency": about})


def findings(table: QueryTable) -> list[str]:
    """What measured latencies say that multiply-adds do not, a line each.

    Args:
        table: With a latency in every row.
    """
    rows = sorted(table.rows, key=lambda row: row.macs)
    lines = []
    for row in rows:
        better = [other for other in rows if _is_better(other, row)]
        if better:
            best = min(better, key=_milliseconds)
            lines.append(
                f"{row.subnet} takes {_in_text(row)} ms and scores {row.score:.1f} on "
                f"{table.select_split}: {best.subnet} scores {best.score:.1f} in "
                f"{_in_text(best)} ms"
            )
    for small, large in pairwise(rows):
        if _milliseconds(small) > _CLEARLY * _milliseconds(large) and small.macs < large.macs:
            few, many = (in_digits(row.macs / 1e6, 4) for row in (small, large))
            lines.append(
                f"{small.subnet} has fewer multiply-adds than {large.subnet} ({few} M and {many} "
                f"M) but takes longer ({_in_text(small)} and {_in_text(large)} ms)"
            )
    return lines


def _milliseconds(row: Row) -> float:
    assert row.latency_ms is not None
    return row.latency_ms


def _in_text(row: Row) -> str:
    return in_digits(_milliseconds(row), 3)


def _is_better(other: Row, row: Row) -> bool:
    """Whether another takes clearly less time for a score that is at least as good."""
    return other.score >= row.score and _CLEARLY * _milliseconds(other) < _milliseconds(row)
