"""One small artifact for all tests of the runtime."""

from __future__ import annotations

import pytest
from PIL import Image

from mutualnet.runtime import Artifact
from tests.small_artifact import NAMES, picture, small_artifact, small_supernet


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


@pytest.fixture
def folder(tmp_path):
    """Five images of each class, of many sizes."""
    for label, name in enumerate(NAMES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            seed = 5 * label + number
            image = Image.fromarray(picture(seed, (30 + seed, 70 - seed)))
            image.save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"
