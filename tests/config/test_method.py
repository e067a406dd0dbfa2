"""The method of a recipe, and what it may change of it."""

from __future__ import annotations

import pytest

from mutualnet.config.method import MethodConfig
from mutualnet.methods import METHODS


def test_the_number_of_random_subnetworks_can_differ_from_the_methods():
    assert MethodConfig(name="us_net", num_random=5).value.rule.num_random == 5
    assert MethodConfig(name="us_net", num_random=5).value.rule.scales == "top"
    assert MethodConfig(name="gradaug").value == METHODS["gradaug"]


@pytest.mark.parametrize("name", ["independent", "multi_scale", "s_net"])
def test_a_method_that_draws_none_takes_no_number(name):
    with pytest.raises(ValueError, match=f"num_random must be null for method {name}"):
        MethodConfig(name=name, num_random=3)
    assert MethodConfig(name=name, num_random=0).value == METHODS[name]


def test_their_number_is_not_negative():
    with pytest.raises(ValueError, match="num_random must be >= 0"):
        MethodConfig(num_random=-1)
