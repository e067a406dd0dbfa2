"""`mutualnet search` on a run that trains in a second."""

from __future__ import annotations

import json

import pytest

from mutualnet.cli.main import main
from mutualnet.commands import make_table
from mutualnet.commands.search import SearchOptions, _budgets
from mutualnet.run_directory import load_run
from mutualnet.search.scoring import Trials
from mutualnet.space import Subnet
from mutualnet.table import QueryTable, Row
from mutualnet.training import train
from tests.small_runs import digits


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run without a table."""
    recipe = digits(
        "space.width_step=0.75", "table.latency_runs=0", "table.num_calibration_samples=64"
    )
    path = tmp_path_factory.mktemp("runs") / "run"
    train(recipe, path)
    return path


def test_finds_go_into_the_table_and_a_second_search_runs_nothing_again(run, capsys, monkeypatch):
    assert main(["search", str(run)]) == 2
    assert f"has no table to add to yet. Make it: mutualnet table {run}" in capsys.readouterr().err
    before = make_table(run, is_full=True)
    assert main(["search", str(run), "--budgets", "5ms"]) == 2
    assert "budgets of multiply-adds, such as 150M, got '5ms'" in capsys.readouterr().err
    assert main(["search", str(run), "--widths", "1"]) == 2
    assert "--widths must be >= 2" in capsys.readouterr().err
    words = ["search", str(run), "--widths", "3", "--images", "100"]
    drawn = (run / "frontier.png").stat().st_mtime_ns
    assert main([*words, "--evaluations", "14"]) == 0
    assert (run / "frontier.png").stat().st_mtime_ns > drawn
    out = capsys.readouterr().out
    assert "greedy search: 14 sub-networks tried, each on 100 images of select" in out
    loaded = load_run(run)
    finds = [row for row in loaded.table.rows if row.found_by]
    assert f"{len(finds)} of them beat the table" in out
    assert loaded.table.meta["searches"][0]["evaluations"] == 14
    for row in finds:
        assert row.test_score is not None
        assert not any(r.macs <= row.macs and r.score >= row.score for r in before.rows)
        assert loaded.supernet.statistics(loaded.supernet.key(row.subnet)) is not None
    state = json.loads((run / "search.json").read_text())
    assert len(state["tried"]) == 14

    def never(self, subnets):
        raise AssertionError(subnets)

    monkeypatch.setattr(Trials, "_run", never)
    assert main([*words, "--evaluations", "14"]) == 0
    assert len(load_run(run).table.meta["searches"]) <= 2

    def interrupt(self, subnets):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trials, "_run", interrupt)
    capsys.readouterr()
    assert main([*words, "--evaluations", "15"]) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert len(json.loads((run / "search.json").read_text())["tried"]) == 14
    (run / "search.json").write_text("{")
    assert main(words) == 2
    assert "search.json is damaged" in capsys.readouterr().err


def test_budgets_lie_along_the_front_even_where_it_is_one_row():
    def table(*costs):
        return QueryTable.from_rows(
            Row(
                subnet=Subnet(width_mult=0.1 * number, resolution=8),
                score=50.0 + number,
                standard_error=1.0,
                num_samples=10,
                macs=macs,
                params=10,
            )
            for number, macs in enumerate(costs, start=1)
        )

    options = SearchOptions(method="evolutionary")
    assert _budgets(options, table(1000, 32_000)) == pytest.approx([2000, 4000, 8000, 16_000])
    for macs in range(121_000, 121_400):
        assert _budgets(options, table(macs)) == [macs]
