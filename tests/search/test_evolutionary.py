"""The evolutionary search: generations within each budget."""

from __future__ import annotations

import pytest

from mutualnet.cost import CostModel
from mutualnet.search.choices import Choices
from tests.search.formula import search, value


def test_evolution_keeps_budgets_is_seeded_and_finds_what_is_best(net, rounds):
    costs = CostModel(net)
    budget = costs.macs(net.space.largest) / 3
    options = {"method": "evolutionary", "num_widths": 4, "budgets": [budget], "evaluations": 90}
    result = search(net, **options, seed=3)
    assert search(net, **options, seed=3) == result != search(net, **options, seed=4)
    assert 16 < len(result.evaluations) <= 90
    assert all(found.macs <= budget for found in result.evaluations)
    choices = Choices.of(net, "stage", 4)
    points = [
        (a, b, c, d, r)
        for a in range(4) for b in range(4) for c in range(4) for d in range(2) for r in range(2)
    ]  # fmt: skip
    scores = [
        value(net, subnet) for subnet in map(choices.subnet, points) if costs.macs(subnet) <= budget
    ]
    found = max(e.score for e in result.evaluations)
    uniform = max(
        value(net, choices.subnet(p))
        for p in choices.uniform()
        if costs.macs(choices.subnet(p)) <= budget
    )
    assert found >= uniform
    assert sum(score > found for score in scores) <= 3  # of all that fit, nearly none is better


def test_tries_are_shared_among_budgets(net, rounds):
    most = CostModel(net).macs(net.space.largest)
    result = search(
        net, method="evolutionary", num_widths=4, budgets=[most / 2, most / 8], evaluations=40
    )
    assert not result.is_whole
    small = [found for found in result.evaluations[:20] if found.macs > most / 8]
    assert not small
    assert any(found.macs > most / 8 for found in result.evaluations)


@pytest.mark.parametrize("share", [1, 1 / 3, 1 / 8])
def test_rounds_are_whole_populations_where_crossings_of_the_best_are_nothing_new(
    net, rounds, share
):
    """Every round reads the images anew."""
    budget = CostModel(net).macs(net.space.largest) * share
    search(net, method="evolutionary", num_widths=7, budgets=[budget], evaluations=60)
    assert sum(map(len, rounds)) == 60
    assert len(rounds) <= 5


@pytest.mark.timeout(60)
def test_evolution_ends_where_many_points_are_few_networks(net, rounds, monkeypatch):
    """At a budget that only the smallest networks meet, draws must not go on for ever."""
    costs = CostModel(net)
    smallest = costs.macs(net.space.smallest)
    result = search(net, method="evolutionary", budgets=[smallest * 1.001], num_widths=7)
    assert 1 <= len(result.evaluations) < 20
    assert result.is_whole
    assert all(found.macs <= smallest * 1.001 for found in result.evaluations)
