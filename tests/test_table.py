"""The query table: its front against a slow reference, budgets, and files."""

from __future__ import annotations

import csv
import io
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from mutualnet.space import Subnet
from mutualnet.table import QueryTable, Row


def _row(width: float = 1.0, side: int = 32, **values) -> Row:
    defaults = {
        "score": 50.0,
        "standard_error": 0.5,
        "num_samples": 100,
        "macs": 1_000_000,
        "params": 1_000,
        "latency_ms": 2.0,
    }
    return Row(subnet=Subnet(width_mult=width, resolution=side), **(defaults | values))


def _random_table(seed: int) -> QueryTable:
    """Few distinct values, so that ties are many."""
    rng = np.random.default_rng(seed)
    return QueryTable.from_rows(
        _row(
            width=1 + i / 100,
            score=float(rng.integers(6)),
            macs=int(rng.integers(1, 6)),
            params=int(rng.integers(1, 6)),
            latency_ms=float(rng.integers(1, 6)),
        )
        for i in range(12)
    )


def _slow_front(table: QueryTable, cost: str) -> set[Subnet]:
    def dominates(a: Row, b: Row) -> bool:
        x, y = getattr(a, cost), getattr(b, cost)
        return a.score >= b.score and x <= y and (a.score > b.score or x < y)

    return {row.subnet for row in table.rows if not any(dominates(o, row) for o in table.rows)}


@pytest.mark.parametrize("seed", range(30))
def test_the_front_is_that_of_comparing_all_pairs(seed):
    table = _random_table(seed)
    for cost in ("macs", "latency_ms"):
        front = table.front(cost)
        assert {row.subnet for row in front} == _slow_front(table, cost)
        costs = [getattr(row, cost) for row in front]
        assert costs == sorted(costs)
    kept = {row.subnet for row in table.rows if not row.dominated}
    assert kept == _slow_front(table, "macs")


@pytest.mark.parametrize("seed", range(10))
def test_best_is_the_highest_score_within_all_budgets(seed):
    table = _random_table(seed)
    for macs in (1, 2.5, 5):
        for latency_ms in (1, 3, 5):
            fitting = [r for r in table.rows if r.macs <= macs and r.latency_ms <= latency_ms]
            if fitting:
                best = table.best(macs=macs, latency_ms=latency_ms)
                assert best in fitting
                assert best.score == max(row.score for row in fitting)


def test_of_equal_scores_the_cheapest_wins():
    table = QueryTable.from_rows([_row(1.0, macs=5), _row(0.5, macs=3), _row(0.25, macs=4)])
    assert table.best(macs=10).subnet.width_mult == 0.5


def test_a_budget_that_is_too_small_names_the_cheapest():
    table = QueryTable.from_rows([_row(1.0, macs=500), _row(0.25, macs=40, latency_ms=3.0)])
    with pytest.raises(ValueError, match=r"macs <= 10; the cheapest is 0.25x32 with macs 40"):
        table.best(macs=10)
    with pytest.raises(ValueError, match="the cheapest is 1x32 with latency_ms 2"):
        table.best(latency_ms=0.1)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({}, "best needs a budget"),
        ({"macs": 0}, "macs must be > 0, got 0"),
        ({"latency_ms": float("nan")}, "latency_ms must be > 0, got nan"),
        ({"params": -1}, "params must be > 0, got -1"),
        ({"macs": "150M"}, "macs must be a number, got '150M'. .*parse_budget reads text"),
    ],
)
def test_a_budget_must_be_one(budget, message):
    with pytest.raises(ValueError, match=message):
        QueryTable.from_rows([_row()]).best(**budget)


def test_latency_must_have_been_measured_to_be_asked_for():
    table = QueryTable.from_rows([_row(1.0), _row(0.5, latency_ms=None)])
    with pytest.raises(ValueError, match=r"1 of 2 have none, the first is 0.5x32"):
        table.best(latency_ms=5)
    with pytest.raises(ValueError, match="latency_ms must be measured"):
        table.front("latency_ms")
    with pytest.raises(ValueError, match="cost must be 'macs' or 'latency_ms', got 'params'"):
        table.front("params")


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"score": float("nan")}, ValueError, "score must be finite, got nan"),
        ({"macs": 0}, ValueError, "macs must be > 0, got 0"),
        ({"macs": 1.5}, TypeError, "macs must be a whole number, got 1.5"),
        ({"standard_error": -1.0}, ValueError, "standard_error must be >= 0"),
        ({"latency_ms": 0.0}, ValueError, "latency_ms must be > 0"),
        ({"score": "50"}, TypeError, "score must be a number, got '50'"),
    ],
)
def test_a_row_checks_itself(values, error, message):
    with pytest.raises(error, match=message):
        _row(**values)


def test_a_table_needs_rows_of_different_subnetworks():
    with pytest.raises(ValueError, match="at least one row"):
        QueryTable.from_rows([])
    with pytest.raises(ValueError, match="one row per sub-network, got two 1x32"):
        QueryTable.from_rows([_row(), _row()])
    with pytest.raises(ValueError, match="meta must hold plain finite JSON values"):
        QueryTable.from_rows([_row()], {"a": object()})


def test_a_table_survives_a_file(tmp_path):
    rows = [
        _row(1.0, test_score=49.0, test_standard_error=0.4),
        _row(0.5, 24, macs=5, latency_ms=None),
        Row(
            subnet=Subnet(width_mult=0.5, resolution=16, group_widths=(("stem", 0.25),)),
            score=1.0,
            standard_error=0.1,
            num_samples=3,
            macs=7,
            params=0,
        ),
    ]
    table = QueryTable.from_rows(rows, {"device": "cpu", "threads": 2})
    table.save(tmp_path / "table.json")
    assert QueryTable.load(tmp_path / "table.json") == table
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]


def _damaged(change) -> str:
    content = json.loads(QueryTable.from_rows([_row()]).to_json())
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (QueryTable.from_rows([_row()]).to_json()[:80], "not a whole query table"),
        ("[]", "not a query table: it must be a JSON object"),
        ('{"format": "other"}', "not a query table"),
        (_damaged(lambda c: c.update(format_version=3)), "format_version must be 1 or 2, got 3"),
        (_damaged(lambda c: c.update(rows={})), "'rows' must be a list"),
        (_damaged(lambda c: c["rows"][0].pop("macs")), "row 0: a row needs the field 'macs'"),
        (
            _damaged(lambda c: c["rows"][0].update(dropped_for=3)),
            "row 0: dropped_for must be an object, got 3",
        ),
        (_damaged(lambda c: c["rows"][0].update(flops=1)), "row 0: a row has no field 'flops'"),
        (_damaged(lambda c: c["rows"][0].update(score=None)), "row 0: score must be a number"),
        ('{"format": NaN}', "NaN is not a finite number"),
    ],
)
def test_a_file_that_is_not_a_whole_table_is_refused(tmp_path, text, message):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path}: .*{message}"):
        QueryTable.load(path)


def _dropped_table() -> QueryTable:
    """Two finished rows, and one dropped whose provisional score is the highest of all."""
    dropped = _row(0.9, score=99.0, num_samples=10, macs=2, dropped_for=Subnet(resolution=32))
    dropped = replace(dropped, latency_ms=None)
    rows = [_row(1.0, score=60.0, macs=2), _row(0.5, score=50.0, macs=1), dropped]
    return QueryTable.from_rows(rows, {"device": "cpu"})


def test_a_dropped_row_is_marked_stored_and_loaded(tmp_path):
    table = _dropped_table()
    assert [row.is_finished for row in table.rows] == [True, True, False]
    assert table.rows[2].dominated
    table.save(tmp_path / "table.json")
    assert QueryTable.load(tmp_path / "table.json") == table
    assert "1x32" in list(csv.DictReader(io.StringIO(table.to_csv())))[2]["dropped_for"]


def test_a_dropped_row_is_never_chosen():
    table = _dropped_table()
    assert [row.subnet.width_mult for row in table.finished] == [1.0, 0.5]
    assert [row.subnet.width_mult for row in table.front()] == [0.5, 1.0]
    assert [row.subnet.width_mult for row in table.front("latency_ms")] == [1.0]
    assert table.best(macs=5).subnet.width_mult == 1.0
    assert table.best(latency_ms=5).subnet.width_mult == 1.0
    both = table.best(macs=10**12, latency_ms=10**6)
    assert both.is_finished and both.score == max(row.score for row in table.finished)
    with pytest.raises(ValueError, match=r"the cheapest is .* Dropped rows may: .*--full"):
        table.best(macs=1e-3, latency_ms=5)
    with pytest.raises(ValueError, match="needs a table with every row finished, got 1 rows"):
        table.best(params=10**9)


def test_asking_for_a_dropped_row_says_why_and_how_to_get_it():
    table = _dropped_table()
    assert table.row(Subnet(width_mult=0.5, resolution=32)) == table.rows[1]
    with pytest.raises(ValueError, match=r"0\.9x32 was dropped .* after 10 images .*1x32.*--full"):
        table.row(Subnet(width_mult=0.9, resolution=32))
    with pytest.raises(ValueError, match=r"must have a row for 0\.3x32"):
        table.row(Subnet(width_mult=0.3, resolution=32))
    with pytest.raises(ValueError, match="at least one finished row"):
        QueryTable.from_rows([table.rows[2]])


def test_a_table_of_the_first_version_still_loads():
    table = QueryTable.from_rows([_row(1.0), _row(0.5, 24, macs=5)], {"device": "cpu"})
    content = json.loads(table.to_json())
    content["format_version"] = 1
    for row in content["rows"]:
        del row["dropped_for"]
    assert QueryTable.from_json(json.dumps(content)) == table


def test_a_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        QueryTable.load(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="it must be UTF-8 text"):
        QueryTable.load(tmp_path / "binary.json")


def test_csv_has_a_line_per_row():
    table = QueryTable.from_rows([_row(1.0), _row(0.5, latency_ms=None)])
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [row["width_mult"] for row in rows] == ["1.0", "0.5"]
    assert [row["latency_ms"] for row in rows] == ["2.0", ""]
    assert rows[0]["dominated"] == "False"


def test_of_rows_with_the_highest_score_the_cheapest_is_the_top():
    dear, cheap, slow = (
        _row(1.0, score=80.0, macs=900),
        _row(0.5, score=80.0, macs=300, latency_ms=1.0),
        _row(0.4, score=80.0, macs=300, latency_ms=2.0),
    )
    worse = _row(0.25, score=79.0, macs=100)
    for rows in itertools.permutations([dear, cheap, slow, worse]):
        assert QueryTable.from_rows(rows).top == cheap


def test_the_score_to_quote_is_that_of_the_test_split():
    row = _row(score=32.0, test_score=21.5)
    table = QueryTable.from_rows([row])
    assert [str(score) for score in table.scores(table.rows[0])] == [
        "21.5 on test",
        "32.0 on select",
    ]
    alone = QueryTable.from_rows([_row(score=32.0)])
    assert [str(score) for score in alone.scores(alone.rows[0])] == ["32.0 on select"]


@pytest.mark.parametrize("name", ["score", "standard_error", "num_samples", "macs", "latency_ms"])
def test_numbers_that_no_machine_counts_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name} must lie below 2\*\*53"):
        _row(**{name: 10**400})


def test_latencies_of_a_table_must_be_told_by_name():
    text = QueryTable.from_rows([_row()], {"latency": "fast"}).to_json()
    with pytest.raises(ValueError, match=r"meta\.latency must be an object"):
        QueryTable.from_json(text)
