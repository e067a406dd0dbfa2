"""Searches whose scores have a closed form, and what becomes of their finds."""

from __future__ import annotations

import json

import pytest
import torch

from mutualnet.cost import CostModel, latency_circumstances
from mutualnet.models.cifar import wrn16_1
from mutualnet.search.choices import Choices
from mutualnet.search.finds import best_finds, check_same_machine, with_finds
from mutualnet.search.scoring import Evaluation, Trials
from mutualnet.search.search import search_subnets
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable, Row
from mutualnet.tasks.classification import Classification


@pytest.fixture(scope="module")
def net():
    """Three stages, two depths, two resolutions."""
    torch.manual_seed(0)
    return Supernet(wrn16_1(4), ElasticSpace(resolutions=(16, 8), depths=(1, 0.5)))


def _value(net: Supernet, subnet: Subnet) -> float:
    """A score that wants channels late and pixels not at all."""
    counts = net.counts(subnet)
    weight = {"stem": 1, "stage1": 1, "stage2": 4, "stage3": 16}
    worth = sum(
        weight[group.name.partition(".")[0]] * count / group.size
        for group, count in zip(net.plan.groups, counts, strict=True)
    )
    return worth + (0.5 if subnet.depth_mult is None else 0) + subnet.resolution / 1e4


@pytest.fixture
def rounds(monkeypatch):
    """Scores by the formula, and the networks of every round that is run."""
    seen = []

    def run(self, subnets):
        seen.append(list(subnets.values()))
        return {
            key: Evaluation(subnet=s, macs=self._costs.macs(s), score=_value(self.supernet, s))
            for key, s in subnets.items()
        }

    monkeypatch.setattr(Trials, "_run", run)
    return seen


def _search(net: Supernet, **options):
    return search_subnets(
        net, task=Classification(), train_batches=[], select_batches=[], **options
    )


def test_points_of_one_width_are_plain_sub_networks(net):
    choices = Choices.of(net, "stage", 4)
    assert choices.widths == (1.0, 0.75, 0.5, 0.25)
    assert choices.num_levels == (4, 4, 4, 2, 2)
    assert choices.subnet((0, 0, 0, 0, 0)) == net.space.largest
    assert choices.subnet((3, 3, 3, 1, 1)) == net.space.smallest
    uniform = {choices.subnet(point) for point in choices.uniform()}
    assert len(uniform) == 16
    assert all(subnet.group_widths is None for subnet in uniform)
    mixed = choices.subnet((0, 2, 3, 0, 1))
    widths = net.stage_widths([1, 0.5, 0.25])
    assert net.key(mixed) == net.key(Subnet(resolution=8, group_widths=widths))
    assert len(Choices.of(net, "group", 4).units) == len(net.plan.groups)
    for wrong in (("block", 4), ("stage", 1)):
        with pytest.raises(ValueError, match="must be"):
            Choices.of(net, *wrong)


def test_greedy_takes_the_cheapest_step_each_time_down_to_the_smallest(net, rounds):
    result = _search(net, num_widths=4)
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
                    steps[lower] = (_value(net, here) - _value(net, there)) / saved
                    break
        point = min(steps, key=steps.get)
        assert net.key(choices.subnet(point)) in tried
    first = tried[net.key(choices.subnet((0, 0, 0, 0, 1)))]
    assert first.subnet.resolution == 8  # pixels are worth least


def test_a_search_stops_at_its_budget_of_tries_and_keeps_them(net, rounds):
    saved = []
    result = _search(net, num_widths=4, evaluations=9, save=saved.append)
    assert not result.is_whole
    assert len(result.evaluations) == 9
    assert saved[-1] == result.evaluations
    assert sum(map(len, rounds)) == 9


def test_greedy_stops_below_the_lowest_budget(net, rounds):
    macs = CostModel(net).macs(net.space.largest) / 2
    result = _search(net, num_widths=4, budgets=[macs])
    whole = _search(net, num_widths=4)
    assert len(result.evaluations) < len(whole.evaluations)
    assert result.evaluations == whole.evaluations[: len(result.evaluations)]


@pytest.mark.parametrize("method", ["greedy", "evolutionary"])
def test_what_was_saved_is_not_run_again(net, rounds, method):
    budget = CostModel(net).macs(net.space.largest) / 3
    options = {"method": method, "num_widths": 4, "budgets": [budget], "seed": 1}
    whole = _search(net, **options, evaluations=40)
    half = whole.evaluations[: len(whole.evaluations) // 2]
    rounds.clear()
    plain = [Evaluation.from_dict(json.loads(json.dumps(e.to_dict()))) for e in half]
    again = _search(net, **options, evaluations=40, known=plain)
    assert again == whole
    known = {net.key(found.subnet) for found in half}
    assert not known & {net.key(subnet) for part in rounds for subnet in part}


def test_evolution_keeps_budgets_is_seeded_and_finds_what_is_best(net, rounds):
    costs = CostModel(net)
    budget = costs.macs(net.space.largest) / 3
    options = {"method": "evolutionary", "num_widths": 4, "budgets": [budget], "evaluations": 90}
    result = _search(net, **options, seed=3)
    assert _search(net, **options, seed=3) == result != _search(net, **options, seed=4)
    assert 16 < len(result.evaluations) <= 90
    assert all(found.macs <= budget for found in result.evaluations)
    choices = Choices.of(net, "stage", 4)
    points = [
        (a, b, c, d, r)
        for a in range(4) for b in range(4) for c in range(4) for d in range(2) for r in range(2)
    ]  # fmt: skip
    scores = [
        _value(net, subnet)
        for subnet in map(choices.subnet, points)
        if costs.macs(subnet) <= budget
    ]
    found = max(e.score for e in result.evaluations)
    uniform = max(
        _value(net, choices.subnet(p))
        for p in choices.uniform()
        if costs.macs(choices.subnet(p)) <= budget
    )
    assert found >= uniform
    assert sum(score > found for score in scores) <= 3  # of all that fit, nearly none is better


def test_tries_are_shared_among_budgets(net, rounds):
    most = CostModel(net).macs(net.space.largest)
    result = _search(
        net, method="evolutionary", num_widths=4, budgets=[most / 2, most / 8], evaluations=40
    )
    small = [found for found in result.evaluations[:20] if found.macs > most / 8]
    assert not small
    assert any(found.macs > most / 8 for found in result.evaluations)


def test_a_real_try_leaves_the_bank_alone_and_scores_what_a_table_would(net):
    batches = [(torch.randn(16, 3, 16, 16), torch.randint(4, (16,))) for _ in range(2)]
    before = dict(net.bank)
    result = search_subnets(
        net, task=Classification(), train_batches=batches, select_batches=batches,
        num_widths=2, evaluations=4, num_calibration_samples=32,
    )  # fmt: skip
    assert dict(net.bank) == before
    assert len(result.evaluations) == 4
    assert all(0 <= found.score <= 100 for found in result.evaluations)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "random"}, "method must be one of greedy, evolutionary, got 'random'"),
        ({"evaluations": 0}, "evaluations must be >= 1, got 0"),
        ({"method": "evolutionary"}, "needs budgets of multiply-adds, got none"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(net, options, message):
    with pytest.raises(ValueError, match=message):
        _search(net, **options)


# ------------------------------------------------------------------------------------- finds


def _row(width: float, score: float, macs: int, **more) -> Row:
    subnet = Subnet(width_mult=width, resolution=16, **more.pop("subnet", {}))
    return Row(
        subnet=subnet, score=score, standard_error=1.0, num_samples=9, macs=macs, params=1, **more
    )


def _mixed(score: float, macs: int, width: float) -> Row:
    return _row(1.0, score, macs, subnet={"group_widths": {"stem": width}})


@pytest.mark.timeout(60)
def test_evolution_ends_where_many_points_are_few_networks(net, rounds, monkeypatch):
    """At a budget that only the smallest networks meet, draws must not go on for ever."""
    costs = CostModel(net)
    smallest = costs.macs(net.space.smallest)
    result = _search(net, method="evolutionary", budgets=[smallest * 1.001], num_widths=7)
    assert 1 <= len(result.evaluations) < 20
    assert all(found.macs <= smallest * 1.001 for found in result.evaluations)


def test_slimmable_networks_are_refused(rounds):
    space = ElasticSpace(widths=(0.5, 1.0), resolutions=(16,))
    slimmable = Supernet(wrn16_1(4), space, own_norms=True)
    with pytest.raises(ValueError, match=r"some for each listed width alone \(s_net\)"):
        _search(slimmable)


def test_finds_are_timed_where_the_table_was(net):
    here = latency_circumstances(torch.device("cpu"))
    row = _row(0.5, 80, 50)
    check_same_machine(QueryTable.from_rows([row], {"latency": here}), net)
    check_same_machine(QueryTable.from_rows([row]), net)
    other = QueryTable.from_rows([row], {"latency": {**here, "device": "another"}})
    with pytest.raises(ValueError, match="which had device another, here it is cpu"):
        check_same_machine(other, net)


def test_tails_of_finds_are_kept_beside_those_of_the_table():
    table = QueryTable.from_rows(
        [_row(1.0, 90, 100), _row(0.5, 80, 50)], {"latency": {"threads": 1, "p90_ms": {"1x16": 2}}}
    )
    find = _mixed(85, 60, 0.5)
    found = QueryTable.from_rows([find], {"latency": {"p90_ms": {str(find.subnet): 3, "x": 4}}})
    latency = with_finds(table, found, "greedy", {}).meta["latency"]
    assert latency["p90_ms"] == {"1x16": 2, str(find.subnet): 3}
    assert latency["threads"] == 1


def test_finds_that_beat_every_row_are_added_and_marked():
    table = QueryTable.from_rows([_row(1.0, 90, 100), _row(0.5, 80, 50)], {"a": 1})
    found = QueryTable.from_rows([_mixed(85, 60, 0.5), _mixed(80, 55, 0.3), _mixed(79, 50, 0.4)])
    new = with_finds(table, found, "greedy", {"evaluations": 7})
    assert [(r.macs, r.found_by) for r in new.rows] == [(100, None), (50, None), (60, "greedy")]
    assert new.meta == {"a": 1, "searches": [{"method": "greedy", "added": 1, "evaluations": 7}]}
    assert new.best(macs=70).found_by == "greedy"
    assert QueryTable.from_json(new.to_json()) == new
    assert "found_by" not in table.to_json()  # an older version reads it still
    assert new.to_csv().count("greedy") == 1


def test_only_new_networks_of_the_front_are_worth_a_full_score(net):
    def tried(score: float, macs: int, **subnet) -> Evaluation:
        return Evaluation(subnet=Subnet(resolution=16, **subnet), macs=macs, score=score)

    table = QueryTable.from_rows([_row(0.5, 80, 50)])
    same = tried(99, 50, width_mult=1.0, group_widths={"*": 0.5})  # the table's row by another name
    better = tried(100, 60, width_mult=0.75)
    worse = tried(98, 70, width_mult=1.0)
    assert best_finds(net, [worse, better, same], table, 9) == [better.subnet]
    many = [tried(i, i + 1, width_mult=0.3 + i / 20) for i in range(12)]
    few = best_finds(net, many, table, 3)
    assert few[0] == many[0].subnet
    assert few[-1] == many[-1].subnet
    assert len(few) == 3


def test_frames_are_an_axis_of_their_own_where_clips_have_several():
    choices = Choices(
        units=(("a",), ("b",)), widths=(1.0, 0.5), depths=(None,), resolutions=(8,), frames=(4, 2)
    )
    assert choices.num_levels == (2, 2, 1, 1, 2)
    assert choices.subnet((0, 1, 0, 0, 1)) == Subnet(
        resolution=8, num_frames=2, group_widths={"b": 0.5}
    )
    assert len(choices.uniform()) == 4
