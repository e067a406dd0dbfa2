"""Searches whose scores have a closed form, and what becomes of their finds."""

from __future__ import annotations

import json

import pytest

from mutualnet.cost import CostModel
from mutualnet.models.cifar import wrn16_1
from mutualnet.search.scoring import Evaluation
from mutualnet.space import ElasticSpace
from mutualnet.supernet import Supernet
from tests.search.formula import search


def test_a_search_stops_at_its_budget_of_tries_and_keeps_them(net, rounds):
    saved = []
    result = search(net, num_widths=4, evaluations=9, save=saved.append)
    assert not result.is_whole
    assert len(result.evaluations) == 9
    assert saved[-1] == result.evaluations
    assert sum(map(len, rounds)) == 9


@pytest.mark.parametrize("method", ["greedy", "evolutionary"])
def test_what_was_saved_is_not_run_again(net, rounds, method):
    budget = CostModel(net).macs(net.space.largest) / 3
    options = {"method": method, "num_widths": 4, "budgets": [budget], "seed": 1}
    whole = search(net, **options, evaluations=40)
    half = whole.evaluations[: len(whole.evaluations) // 2]
    rounds.clear()
    plain = [Evaluation.from_dict(json.loads(json.dumps(e.to_dict()))) for e in half]
    again = search(net, **options, evaluations=40, known=plain)
    assert again == whole
    known = {net.key(found.subnet) for found in half}
    assert not known & {net.key(subnet) for part in rounds for subnet in part}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "random"}, "method must be one of greedy, evolutionary, got 'random'"),
        ({"evaluations": 0}, "evaluations must be >= 1, got 0"),
        ({"method": "evolutionary"}, "needs budgets of multiply-adds, got none"),
        ({"budgets": [float("nan")]}, "budgets must be > 0 multiply-adds, got nan"),
        ({"budgets": [1e9, -1.0]}, "budgets must be > 0 multiply-adds, got -1"),
        (
            {"method": "evolutionary", "budgets": [1e9, 121_407]},
            "at least the 121,408 multiply-adds of the smallest sub-network, got 121,407. Raise it",
        ),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(net, options, message):
    with pytest.raises(ValueError, match=message):
        search(net, **options)


# ------------------------------------------------------------------------------------- finds


def test_slimmable_networks_are_refused(rounds):
    space = ElasticSpace(widths=(0.5, 1.0), resolutions=(16,))
    slimmable = Supernet(wrn16_1(4), space, own_norms=True)
    with pytest.raises(ValueError, match=r"some for each listed width alone \(s_net\)"):
        search(slimmable)
