"""The greedy search: the cheapest step each time."""

from __future__ import annotations

from mutualnet.cost import CostModel
from mutualnet.search.choices import Choices
from tests.search.formula import search, value


def test_greedy_takes_the_cheapest_step_each_time_down_to_the_smallest(net, rounds):
    result = search(net, num_widths=4)
    assert result.is_whole
    tried = {net.key(found.subnet): found for found in result.evaluations}
    assert len(tried) == len(result.evaluations)  # each network once
    assert net.key(net.space.smallest) in tried
    # The slow plain way: among all neighbours one level down, by hand.
    choices, costs = Choices.of(net, "stage", 4), CostModel(net)
    point = (0,) * 5
    while net.key(here := choices.subnet(point)) != net.key(net.space.smallest):
        steps = {}
        for axis in range(5):
            for level in range(point[axis] + 1, choices.num_levels[axis]):
                lower = (*point[:axis], level, *point[axis + 1 :])
                there = choices.subnet(lower)
                saved = costs.macs(here) - costs.macs(there)
                if saved > 0:
                    steps[lower] = (value(net, here) - value(net, there)) / saved
                    break
        point = min(steps, key=steps.get)
        assert net.key(choices.subnet(point)) in tried
    first = tried[net.key(choices.subnet((0, 0, 0, 0, 1)))]
    assert first.subnet.resolution == 8  # pixels are worth least


def test_greedy_stops_below_the_lowest_budget(net, rounds):
    macs = CostModel(net).macs(net.space.largest) / 2
    result = search(net, num_widths=4, budgets=[macs])
    whole = search(net, num_widths=4)
    assert len(result.evaluations) < len(whole.evaluations)
    assert result.evaluations == whole.evaluations[: len(result.evaluations)]
