"""One small network for all tests of heads."""

from __future__ import annotations

import pytest
import torch

from mutualnet.models import wrn16_1


@pytest.fixture
def model():
    torch.manual_seed(0)
    return wrn16_1(10)


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16)
