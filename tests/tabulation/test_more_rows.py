"""Rows put among those of a table."""

from __future__ import annotations

import pytest
import torch

from mutualnet.cost import latency_circumstances
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable, Row
from mutualnet.tabulation import check_same_machine, with_rows
from tests.plain_net import plain_net


def _row(width: float, score: float, macs: int, **more) -> Row:
    subnet = Subnet(width_mult=width, resolution=16)
    return Row(
        subnet=subnet, score=score, standard_error=1.0, num_samples=9, macs=macs, params=1, **more
    )


def test_rows_are_timed_where_the_table_was():
    net = Supernet(plain_net(4, 3), ElasticSpace(resolutions=(16,)))
    here = latency_circumstances(torch.device("cpu"))
    row = _row(0.5, 80, 50)
    check_same_machine(QueryTable.from_rows([row], {"latency": here}), net)
    check_same_machine(QueryTable.from_rows([row]), net)
    other = QueryTable.from_rows([row], {"latency": {**here, "device": "another"}})
    with pytest.raises(ValueError, match="which had device another, here it is cpu"):
        check_same_machine(other, net)


def test_tails_of_rows_are_kept_beside_those_of_the_table():
    table = QueryTable.from_rows(
        [_row(1.0, 90, 100), _row(0.5, 80, 50)], {"latency": {"threads": 1, "p90_ms": {"1x16": 2}}}
    )
    find = _row(0.75, 85, 60)
    found = QueryTable.from_rows([find], {"latency": {"p90_ms": {str(find.subnet): 3, "x": 4}}})
    latency = with_rows(table, found.rows, found).meta["latency"]
    assert latency["p90_ms"] == {"1x16": 2, str(find.subnet): 3}
    assert latency["threads"] == 1


def test_rows_take_the_place_of_those_of_the_same_name():
    dropped = _row(0.75, 70, 60, dropped_for=Subnet(width_mult=0.5, resolution=16))
    table = QueryTable.from_rows([_row(1.0, 90, 100), dropped, _row(0.5, 80, 50)], {"a": 1})
    rows = [_row(0.75, 79, 60), _row(0.6, 1, 55, found_by="hand")]
    new = with_rows(table, rows, None, a=2)
    found = {row.macs: (row.score, row.found_by, row.is_finished) for row in new.rows}
    assert found == {
        100: (90, None, True),
        60: (79, None, True),
        50: (80, None, True),
        55: (1, "hand", True),
    }
    assert new.meta["a"] == 2
