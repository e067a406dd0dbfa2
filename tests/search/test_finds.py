"""Which finds go into a run's table."""

from __future__ import annotations

from mutualnet.search.finds import best_finds, with_finds
from mutualnet.search.scoring import Evaluation
from mutualnet.space import Subnet
from mutualnet.table import QueryTable, Row


def _row(width: float, score: float, macs: int, **more) -> Row:
    subnet = Subnet(width_mult=width, resolution=16, **more.pop("subnet", {}))
    return Row(
        subnet=subnet, score=score, standard_error=1.0, num_samples=9, macs=macs, params=1, **more
    )


def _mixed(score: float, macs: int, width: float) -> Row:
    return _row(1.0, score, macs, subnet={"group_widths": {"stem": width}})


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


def test_a_find_that_the_table_had_dropped_is_marked_too():
    dropped = _row(0.75, 70, 60, dropped_for=Subnet(width_mult=0.5, resolution=16))
    table = QueryTable.from_rows([_row(1.0, 90, 100), dropped, _row(0.5, 80, 50)])
    new = with_finds(table, QueryTable.from_rows([_row(0.75, 85, 60)]), "greedy", {})
    assert [(r.macs, r.found_by) for r in new.rows if r.found_by] == [(60, "greedy")]
    assert len(new.rows) == 3


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
