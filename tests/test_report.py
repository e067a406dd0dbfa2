"""What a person sees of a table."""

import io

import pytest
from PIL import Image
from rich.console import Console

from mutualnet.report import plot_frontier, print_table, table_markdown
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


def test_markdown_shows_the_front_the_dearest_first(table):
    lines = table_markdown(table).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("| sub-network | top-1 accuracy (%) | M MACs |")
    assert lines[2].startswith("| 1x224 | 72.4 ± 0.4 | 569 |")
    assert len(table_markdown(table, only_front=False).splitlines()) == 5


def test_the_terminal_says_how_many_rows_it_leaves_out(table):
    console = Console(file=io.StringIO(), width=120)
    print_table(table, console)
    text = console.file.getvalue()
    assert "0.5x160" in text
    assert "1x128" not in text
    assert "1 more row" in text


def test_an_unknown_cost_is_refused(table, tmp_path):
    with pytest.raises(ValueError, match="cost must be 'macs' or 'latency_ms', got 'params'"):
        plot_frontier(table, tmp_path / "x.png", cost="params")
