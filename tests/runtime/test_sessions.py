"""Loaded graphs, bounded by their number and their bytes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mutualnet.runtime import AdaptiveRunner, ArtifactError, sessions
from tests.small_artifact import NAMES, SUBNETS, picture


def test_the_least_recently_used_configurations_leave(artifact):
    runner = AdaptiveRunner(artifact, max_loaded=2)
    graphs = {c.subnet: c.graph for c in artifact.manifest.configurations}
    first, second, third, _ = SUBNETS
    for subnet in (first, second, first, third):
        runner.run(picture(), subnet)
    assert runner.sessions.loaded == (graphs[first], graphs[third])


def test_memory_is_bounded(artifact):
    sizes = {c.graph: c.num_bytes for c in artifact.manifest.configurations}
    limit = max(sizes.values()) + 1
    runner = AdaptiveRunner(artifact, max_bytes=limit)
    for subnet in (*SUBNETS, *reversed(SUBNETS)):
        runner.run(picture(), subnet)
        loaded = runner.sessions.loaded
        assert sum(sizes[graph] for graph in loaded) <= limit or len(loaded) == 1


def test_a_graph_that_does_not_fit_the_classes_is_refused(artifact, net, tmp_path):
    import dataclasses

    manifest = dataclasses.replace(artifact.manifest, class_names=NAMES[:9])
    broken = dataclasses.replace(artifact, manifest=manifest)
    with pytest.raises(ArtifactError, match=r"must give \(1, 9\) for the manifest's classes"):
        AdaptiveRunner(broken).run(picture())


_MEMORY = """
import sys
from pathlib import Path
import numpy as np
from mutualnet.runtime import AdaptiveRunner, Artifact

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

artifact = Artifact.open(sys.argv[1])
subnets = [c.subnet for c in artifact.manifest.configurations if c.subnet.width_mult >= 0.5]
images = np.zeros((1500, *artifact.manifest.input_shape), np.float32)
runner = AdaptiveRunner(artifact, threads=1)
before = resident()
for subnet in reversed(subnets):  # the largest first
    runner.logits(images, subnet)
    print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells a process's memory")
def test_all_configurations_work_in_the_same_memory(artifact_file):
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(artifact_file)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, *others = map(int, done.stdout.split())
    assert first > 20 * 2**20
    assert max(others) < 1.25 * first


def test_two_threads_that_run_different_configurations_get_their_own_results(artifact):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((64, *artifact.manifest.input_shape), np.float32)
    runner = AdaptiveRunner(artifact, threads=1)
    expected = [runner.logits(images, subnet) for subnet in SUBNETS]
    with ThreadPoolExecutor(len(SUBNETS)) as pool:
        for _ in range(10):
            found = pool.map(lambda subnet: runner.logits(images, subnet), SUBNETS)
            for mine, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(mine, theirs)


@pytest.fixture
def slow_loads(monkeypatch):
    """Graphs that were asked for, and an event without which none but the first is loaded."""
    load, asked, go_on = sessions.load_session, [], threading.Event()

    def slowed(artifact, configuration, threads):
        asked.append(configuration.graph)
        assert len(asked) == 1 or go_on.wait(60)
        return load(artifact, configuration, threads)

    monkeypatch.setattr(sessions, "load_session", slowed)
    return asked, go_on


def _wait_for(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("in vain")


def test_who_uses_a_loaded_configuration_does_not_wait_for_another(artifact, slow_loads):
    asked, go_on = slow_loads
    runner = AdaptiveRunner(artifact, threads=1)
    runner.run(picture(), SUBNETS[0])
    with ThreadPoolExecutor(2) as pool:
        cold = pool.submit(runner.run, picture(), SUBNETS[1])
        try:
            _wait_for(lambda: len(asked) == 2)
            assert pool.submit(runner.run, picture(), SUBNETS[0]).result(timeout=60)
            assert not cold.done()
        finally:
            go_on.set()
        assert cold.result()


def test_two_threads_that_want_the_same_configuration_load_it_once(artifact, slow_loads):
    asked, go_on = slow_loads
    asked.append("none")
    loaded = sessions.Sessions(artifact, threads=1)
    configuration = artifact.configuration(SUBNETS[0])
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(loaded.get, configuration) for _ in range(2)]
        _wait_for(lambda: len(asked) == 2)
        go_on.set()
    assert found[0].result() is found[1].result()
    assert asked == ["none", configuration.graph]


def test_a_load_that_fails_may_be_tried_again(artifact, monkeypatch):
    load, failures = sessions.load_session, [ArtifactError("not now")]

    def fail_once(*arguments):
        if failures:
            raise failures.pop()
        return load(*arguments)

    monkeypatch.setattr(sessions, "load_session", fail_once)
    loaded = sessions.Sessions(artifact, threads=1)
    configuration = artifact.configuration(SUBNETS[0])
    with pytest.raises(ArtifactError, match="not now"):
        loaded.get(configuration)
    assert loaded.loaded == ()
    assert loaded.get(configuration) is loaded.get(configuration)


def test_a_program_that_has_an_allocator_of_its_own_keeps_it(artifact, monkeypatch):
    import onnxruntime

    asked = []

    def refuse(*arguments):
        asked.append(arguments)
        raise RuntimeError("an allocator for this device has been registered")

    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", refuse)
    monkeypatch.setattr(sessions, "_is_shared", False)
    runner = AdaptiveRunner(artifact)
    assert runner.run(picture())
    assert runner.run(picture(), SUBNETS[0])
    assert len(asked) == 1
