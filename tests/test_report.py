"""What a person sees of a table."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from mutualnet.report import plot_frontier, print_table
from mutualnet.space import Subnet
from mutualnet.table import QueryTable, Row


@pytest.fixture
def table():
    def row(width: float, side: int, score: float, macs: int) -> Row:
        return Row(
            subnet=Subnet(width_mult=width, resolution=side),
            score=score,
            standard_error=0.4,
            num_samples=100,
            macs=macs,
            params=2_000_000,
            latency_ms=macs / 1e7,
        )

    rows = [
        row(1, 224, 72.4, 569_000_000),
        row(1, 128, 60.0, 186_000_000),
        row(0.5, 160, 60.3, 76_000_000),
    ]
    return QueryTable.from_rows(rows, {"score_name": "top-1 accuracy (%)"})


@pytest.mark.parametrize("cost", ["macs", "latency_ms"])
def test_the_picture_is_drawn_and_not_blank(table, tmp_path, cost):
    path = tmp_path / "front.png"
    plot_frontier(table, path, cost=cost, title="a title")
    with Image.open(path) as image:
        assert image.size[0] > 800
        assert len(image.convert("RGB").getcolors(2**24)) > 50


def _lines(table: QueryTable, only_front: bool = True) -> list[list[str]]:
    """The cells of what is printed, the heading first."""
    console = Console(file=io.StringIO(), width=200)
    print_table(table, console, only_front)
    lines = [line for line in console.file.getvalue().splitlines() if line[:1] in "┃│"]
    return [[cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in lines]


def test_a_name_in_the_picture_is_no_formula(table, tmp_path):
    odd = replace(table, meta={"score_name": r"gain in $\foo{$"})
    plot_frontier(odd, tmp_path / "front.png", title=r"$\foo{$")
    assert (tmp_path / "front.png").is_file()


def test_the_front_is_shown_the_dearest_first(table):
    heading, *rows = _lines(table)
    assert heading[:3] == ["sub-network", "top-1 accuracy (%) on select (chose)", "M MACs"]
    assert [row[:3] for row in rows] == [
        ["1x224", "72.4 ± 0.4", "569"],
        ["0.5x160", "60.3 ± 0.4", "76"],
    ]
    assert len(_lines(table, only_front=False)) == 4


def test_the_terminal_says_how_many_rows_it_leaves_out(table):
    console = Console(file=io.StringIO(), width=120)
    print_table(table, console)
    text = console.file.getvalue()
    assert "0.5x160" in text
    assert "1x128" not in text
    assert "1 more row" in text


def test_large_networks_cost_is_written_in_full(table):
    costly = replace(table.rows[0], macs=54_518_000_000, params=1_660_000_000, latency_ms=1234.5)
    rows = _lines(QueryTable.from_rows([costly], table.meta))
    assert rows[1][2:] == ["54518", "1660", "1234"]


def _tested(table: QueryTable) -> QueryTable:
    """The front scored on the test split too, where it is worse."""
    front = {row.subnet for row in table.front()}
    rows = [
        replace(row, test_score=row.score - 10, test_standard_error=0.2)
        if row.subnet in front
        else row
        for row in table.rows
    ]
    return QueryTable.from_rows(rows, table.meta)


def _drawn(monkeypatch, table: QueryTable, tmp_path) -> tuple[str, list[float], str]:
    """The vertical axis' name, the heights of the line, and the line's name."""
    kept = []
    inner = Figure.add_subplot
    with monkeypatch.context() as patch:
        patch.setattr(Figure, "add_subplot", lambda self: kept.append(inner(self)) or kept[0])
        plot_frontier(table, tmp_path / "front.png")
    (axes,) = kept
    return axes.get_ylabel(), list(axes.lines[0].get_ydata()), axes.lines[0].get_label()


def test_the_test_score_is_shown_where_there_is_one_and_every_split_is_named(table):
    heading, first, *_ = _lines(_tested(table))
    assert heading[1:3] == ["top-1 accuracy (%) on test", "top-1 accuracy (%) on select (chose)"]
    assert first[:3] == ["1x224", "62.4 ± 0.2", "72.4 ± 0.4"]
    everything = _lines(_tested(table), only_front=False)
    assert everything[0] == heading
    assert everything[2][:3] == ["1x128", "", "60.0 ± 0.4"]


def test_the_picture_shows_one_split_and_names_it(table, tmp_path, monkeypatch):
    assert _drawn(monkeypatch, table, tmp_path) == (
        "top-1 accuracy (%) on select",
        [60.3, 72.4],
        "best for its cost on select",
    )
    name, heights, line = _drawn(monkeypatch, _tested(table), tmp_path)
    assert name == "top-1 accuracy (%) on test"
    assert heights == pytest.approx([50.3, 62.4])
    assert line == "best for its cost on select"


@pytest.mark.parametrize(("kind", "split"), [("trained", "train"), ("test", "test")])
def test_a_table_chosen_on_another_split_says_so(table, tmp_path, monkeypatch, kind, split):
    chosen = QueryTable.from_rows(table.rows, table.meta | {"select": {"kind": kind}})
    assert f"top-1 accuracy (%) on {split} (chose)" in _lines(chosen)[0]
    name, _, line = _drawn(monkeypatch, chosen, tmp_path)
    assert name == f"top-1 accuracy (%) on {split}"
    assert line == f"best for its cost on {split}"
    assert [str(score) for score in chosen.scores(chosen.top)] == [f"72.4 on {split}"]
    assert chosen.to_csv().splitlines()[1].endswith(f",{split}")


def test_an_unknown_cost_is_refused(table, tmp_path):
    with pytest.raises(ValueError, match="cost must be 'macs' or 'latency_ms', got 'params'"):
        plot_frontier(table, tmp_path / "x.png", cost="params")
