"""Latencies of all configurations, and what they say that multiply-adds do not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mutualnet.runtime import (
    ArtifactError,
    LatencyPercentiles,
    findings,
    measure,
    measurement,
    with_latencies,
)
from mutualnet.table import QueryTable
from tests.small_artifact import SUBNETS


class _Session:
    """Takes a known time by a clock that it moves itself."""

    def __init__(self, clock, seconds, log, number):
        self.clock, self.seconds, self.log, self.number = clock, seconds, log, number
        self.runs = 0

    def run(self, names, feed, options=None):
        self.runs += 1
        self.log.append((self.number, feed["images"].shape))
        # The first run after another configuration is ten times slower.
        is_first = len(self.log) == 1 or self.log[-2][0] != self.number
        self.clock.now += self.seconds * (10 if is_first else 1)
        return [np.zeros((2, 10))]


class _Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_times_are_medians_of_interleaved_visits(artifact, monkeypatch):
    clock, log = _Clock(), []
    seconds = iter((0.001, 0.002, 0.003, 0.004))
    numbers = iter(range(4))
    monkeypatch.setattr(
        measurement,
        "load_session",
        lambda *a: _Session(clock, next(seconds), log, next(numbers)),
    )
    found = measure(artifact, batch_size=2, runs=12, clock=clock)
    assert [latency.subnet for latency in found] == [
        c.subnet for c in artifact.manifest.configurations
    ]
    for latency, expected in zip(found, (1.0, 2.0, 3.0, 4.0), strict=True):
        np.testing.assert_allclose([latency.p50, latency.p90, latency.p99], expected)
    assert {shape for _, shape in log} == {(2, 3, 32, 32)}
    visits = [number for i, (number, _) in enumerate(log) if i == 0 or log[i - 1][0] != number]
    assert len(log) == 4 * 3 * 7  # twelve runs are three visits of five and a warm-up
    assert len(visits) > 4  # none is measured in one go


def test_what_was_measured_is_kept_with_its_device(artifact):
    latencies = measure(artifact, runs=5)
    table = with_latencies(artifact, latencies, threads=1, batch_size=1, runs=5)
    by_subnet = {latency.subnet: latency for latency in latencies}
    for row in table.rows:
        assert row.latency_ms == by_subnet[row.subnet].p50 > 0
    about = table.meta["latency"]
    assert about["threads"] == about["batch_size"] == 1
    assert about["device"]
    assert set(about["percentiles_ms"]) == {str(subnet) for subnet in SUBNETS}
    for values in about["percentiles_ms"].values():
        assert values["p50"] <= values["p90"] <= values["p99"]


def test_findings_name_what_time_says_otherwise(artifact):
    rows = sorted(artifact.table.rows, key=lambda row: row.macs)
    times = (5.0, 2.0, 2.02, 9.0)
    table = QueryTable.from_rows(
        [dataclasses.replace(r, latency_ms=t) for r, t in zip(rows, times, strict=True)]
    )
    found = findings(table)
    first, second = rows[0].subnet, rows[1].subnet
    assert len(found) == 2
    assert found[0].startswith(
        f"{first} takes 5 ms and scores 50.0 on select: {second} scores 51.0 in 2 ms"
    )
    assert found[1].startswith(f"{first} has fewer multiply-adds than {second}")
    even = [dataclasses.replace(r, latency_ms=t) for r, t in zip(rows, (1, 2, 3, 4), strict=True)]
    assert findings(QueryTable.from_rows(even)) == []


@pytest.mark.parametrize("name", ["threads", "batch_size", "runs"])
def test_settings_are_checked(artifact, name):
    with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
        measure(artifact, **{name: 0})


def test_a_graph_of_single_images_is_measured_so(artifact):
    one = dataclasses.replace(artifact.manifest.configurations[0], batch_size=1)
    manifest = dataclasses.replace(artifact.manifest, configurations=(one,))
    single = dataclasses.replace(artifact, manifest=manifest)
    with pytest.raises(ValueError, match=r"batch_size must be 1 for .*, which takes no other"):
        measure(single, batch_size=4)


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LatencyPercentiles(subnet=SUBNETS[0], p50=1, p90=1, p99=1).p50 = 2


def test_a_graph_that_fails_while_it_is_timed_is_named(artifact, monkeypatch):
    class Failing:
        def run(self, names, feed, options=None):
            raise RuntimeError("no kernel\nmore")

    monkeypatch.setattr(measurement, "load_session", lambda *a: Failing())
    with pytest.raises(ArtifactError, match=r"does not run in ONNX Runtime \(no kernel\)"):
        measure(artifact, runs=5)
