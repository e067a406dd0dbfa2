"""What to train for budgets that are known beforehand."""

from __future__ import annotations

import pytest

from mutualnet import planning
from mutualnet.budget import Budget, parse_budget
from mutualnet.cost import CostModel
from mutualnet.models.cifar import wrn16_1, wrn16_4
from mutualnet.planning import propose_space
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.supernet import Supernet


@pytest.fixture
def machine(monkeypatch):
    """A machine whose latency is a known function, so that choices can be checked."""

    def latency(supernet, subnet, runs):
        return 10 * subnet.width_mult * (subnet.resolution / 32) ** 2

    monkeypatch.setattr(planning, "_latency_ms", latency)


def _propose(*budgets, resolutions=(32, 24, 16)):
    return propose_space(
        lambda: wrn16_1(10), [parse_budget(b) for b in budgets], resolutions=resolutions
    )


def test_every_choice_fits_its_budget_and_nothing_much_larger_would(machine):
    found = _propose("2ms", "6ms", "5M", "20M")
    space = ElasticSpace(width_range=(0.1, 1.0), resolutions=(32, 24, 16), width_step=0.1)
    costs = CostModel(Supernet(wrn16_1(10), space))
    for choice in found.choices:
        budget = choice.budget
        fitting = [
            costs.macs(subnet)
            for subnet in space.grid()
            if costs.macs(subnet) <= (budget.macs or float("inf"))
            and planning._latency_ms(None, subnet, 1) <= (budget.latency_ms or float("inf"))
        ]
        assert 0.8 * max(fitting) <= choice.macs <= max(fitting)
        found.space.check(choice.subnet)
    widths = [choice.subnet.width_mult for choice in found.choices]
    assert found.space.width_range == (min(widths), max(widths))


def test_of_equally_large_ones_width_and_resolution_shrink_alike(machine):
    # WRN-16-1 rounds its 16 channels too coarsely to choose from.
    found = propose_space(lambda: wrn16_4(10), [parse_budget("130M")], resolutions=(32, 24, 16))
    (choice,) = found.choices
    share = choice.subnet.width_mult / (choice.subnet.resolution / 32)
    assert 0.6 < share < 1.6


def test_a_budget_for_everything_takes_the_whole_network(machine):
    found = _propose("1G")
    assert found.choices[0].subnet == Subnet(width_mult=1.0, resolution=32)
    assert found.choices[0].budget == Budget(macs=1e9)


def test_a_budget_that_nothing_fits_names_the_smallest(machine):
    with pytest.raises(ValueError, match=r"no sub-network fits 0\.001 ms: the smallest, 0\.1x16"):
        _propose("1us")


def test_no_budget_is_refused_before_anything_is_timed(machine):
    with pytest.raises(ValueError, match=r"budgets must name at least one, .* got none"):
        _propose()


def test_latencies_are_measured():
    found = propose_space(
        lambda: wrn16_1(10), [parse_budget("10s")], resolutions=(8,), lowest_width=0.5, runs=2
    )
    assert 0 < found.choices[0].latency_ms < 1000
