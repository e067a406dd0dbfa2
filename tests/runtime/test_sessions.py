"""Loaded graphs, bounded by their number and their bytes."""

from __future__ import annotations

import pytest

from mutualnet.runtime import AdaptiveRunner, ArtifactError
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
