"""The method of a recipe, and what it may change of it."""

from __future__ import annotations

import pytest

from mutualnet.config.method import MethodConfig
from mutualnet.methods import METHODS


def test_the_number_of_random_subnetworks_can_differ_from_the_methods():
    assert MethodConfig(name="us_net", num_random=5).value.rule.num_random == 5
    assert MethodConfig(name="us_net", num_random=5).value.rule.scales == "top"
    assert MethodConfig(name="gradaug").value == METHODS["gradaug"]


def test_their_number_is_not_negative():
    with pytest.raises(ValueError, match="num_random must be >= 0"):
        MethodConfig(num_random=-1)
