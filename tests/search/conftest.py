"""A network to search, and tries that run nothing."""

from __future__ import annotations

import pytest
import torch

from mutualnet.models.cifar import wrn16_1
from mutualnet.search.scoring import Evaluation, Trials
from mutualnet.space import ElasticSpace
from mutualnet.supernet import Supernet
from tests.search.formula import value


@pytest.fixture(scope="module")
def net():
    """Three stages, two depths, two resolutions."""
    torch.manual_seed(0)
    return Supernet(wrn16_1(4), ElasticSpace(resolutions=(16, 8), depths=(1, 0.5)))


@pytest.fixture
def rounds(monkeypatch):
    """Scores by the formula, and the networks of every round that is run."""
    seen = []

    def run(self, subnets):
        seen.append(list(subnets.values()))
        return {
            key: Evaluation(subnet=s, macs=self._costs.macs(s), score=value(self.supernet, s))
            for key, s in subnets.items()
        }

    monkeypatch.setattr(Trials, "_run", run)
    return seen
