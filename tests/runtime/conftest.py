"""One small artifact for all tests of the runtime."""

from __future__ import annotations

import pytest

from mutualnet.runtime import Artifact
from tests.small_artifact import small_artifact, small_supernet


@pytest.fixture(scope="session")
def net():
    return small_supernet()


@pytest.fixture(scope="session")
def artifact_file(tmp_path_factory, net):
    return small_artifact(tmp_path_factory.mktemp("artifact"), net)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nothing of one test is found by another, or by the user."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MUTUALNET_CACHE", str(folder))
    return folder


@pytest.fixture
def artifact(artifact_file):
    return Artifact.open(artifact_file)
