"""The page about a run: whole by itself, and text stays text."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mutualnet.budget import parse_budget
from mutualnet.cli import main
from mutualnet.html_report import report_page
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import RunRecord
from mutualnet.space import Subnet
from mutualnet.table import QueryTable, Row
from mutualnet.teaching import dcm
from mutualnet.training import train
from tests.small_runs import DCM, digits, pair

EVIL = "<script>alert('x')</script>\"&\x1b"


class _Page(HTMLParser):
    """Elements with their attributes, and the text of each kind of element."""

    VOID = ("meta", "circle", "line", "polyline", "polygon")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data

    @property
    def points(self) -> list[dict[str, str | None]]:
        return [values for _, values in self.elements if values.get("class") == "point"]


def _check_by_itself(page: _Page, text: str) -> None:
    """Nothing in the page leads out of it."""
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == tags.count("style") == 1
    assert not {"link", "img", "iframe", "object", "embed", "base", "a", "use"} & set(tags)
    for _, values in page.elements:
        assert not {"src", "href", "xlink:href", "srcset", "action"} & set(values)
        assert not [name for name in values if name.startswith("on")]
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|innerHTML", text)


@pytest.fixture
def table() -> QueryTable:
    macs = [569_000_123, 300_000_000, 186_000_000, 76_000_777, 12_345_678]
    scores = [72.4, 70.1, 60.0, 60.3, 41.0]
    sizes = [(1, 224), (0.75, 192), (1, 128), (0.5, 160), (0.25, 128)]
    rows = [
        Row(
            subnet=Subnet(width_mult=width, resolution=side),
            score=score,
            standard_error=0.4,
            num_samples=100,
            macs=cost,
            params=2_000_000,
            latency_ms=cost / 1e7,
        )
        for (width, side), score, cost in zip(sizes, scores, macs, strict=True)
    ]
    dropped = replace(
        rows[2],
        subnet=Subnet(width_mult=0.8, resolution=160),
        dropped_for=rows[3].subnet,
        score=10.0,
    )
    return QueryTable.from_rows([*rows, dropped], {"score_name": "top-1 accuracy (%)"})


def _record(table: QueryTable | None, path: Path = Path("runs/run 1"), **info) -> RunRecord:
    return RunRecord(
        path=path,
        recipe=load_recipe("digits_demo"),
        recipe_text="name: digits_demo\n",
        info={"task": "classification", "class_names": ["a", "b"], **info},
        table=table,
    )


EPOCHS = [
    {"epoch": n, "step": 9 * n, "lr": 0.1, "ce_largest": 2.0 / n, "kl_smallest": 0.1 * n}
    for n in range(1, 4)
]


def test_every_finished_row_is_there_and_a_point_on_each_chart(table):
    text = report_page(_record(table), EPOCHS)
    page = _Page(text)
    _check_by_itself(page, text)
    for row in table.finished:
        assert page.texts["td"].count(str(row.subnet)) == 1
        about = [p for p in page.points if p["data-about"].startswith(f"{row.subnet}: ")]
        assert len(about) == 2  # over multiply-adds and over time
        assert f"{row.score:.1f} on select" in about[0]["data-about"]
    assert "0.8x160" not in text
    assert "1 more were dropped early" in text
    assert [values["aria-label"] for tag, values in page.elements if "viewbox" in values] == [
        "top-1 accuracy (%) over millions of multiply-adds",
        "top-1 accuracy (%) over median latency, ms",
        "loss, nats over epochs",
    ]


def test_error_bars_end_within_the_chart(table):
    unsure = [replace(row, standard_error=9.0) for row in table.rows]
    page = _Page(report_page(_record(replace(table, rows=tuple(unsure))), []))
    bars = [
        sorted((float(values["y1"] or 0), float(values["y2"] or 0)))
        for tag, values in page.elements
        if tag == "line" and values["x1"] == values["x2"] and values.get("class") != "grid"
    ]
    assert len(bars) >= 2 * len(table.front())
    lengths = [bottom - top for top, bottom in bars[: len(table.front())]]
    assert lengths == pytest.approx([lengths[0]] * len(lengths), abs=0.2)  # none is cut off


def test_the_command_of_a_point_uses_its_row(table):
    page = _Page(report_page(_record(table), []))
    front = {str(row.subnet) for row in table.front()}
    assert len(front) == 4
    for point in page.points:
        words = shlex.split(point["data-use"])
        name = point["data-about"].partition(":")[0]
        assert words[2] == "runs/run 1"
        if name in front:
            assert words[:2] == ["mutualnet", "predict"]
            budget = parse_budget(words[words.index("--budget") + 1])
            found = table.best(macs=budget.macs, latency_ms=budget.latency_ms)
            assert str(found.subnet) == name
        else:
            assert words == ["mutualnet", "export", "runs/run 1", "--configs", name]


def test_rows_without_latency_have_one_chart(table):
    rows = [replace(row, latency_ms=None) for row in table.rows]
    page = _Page(report_page(_record(QueryTable.from_rows(rows, table.meta)), []))
    assert sum("viewbox" in values for _, values in page.elements) == 1
    assert "ms (median)" not in page.texts["th"]


def test_names_are_text_and_not_markup(table):
    named = QueryTable.from_rows(table.rows, {"score_name": EVIL, EVIL: EVIL})
    record = replace(
        _record(named, Path(EVIL), **{EVIL: {EVIL: [EVIL]}, "class_names": [EVIL]}),
        recipe=replace(load_recipe("digits_demo"), name="x", description=EVIL),
        recipe_text=EVIL,
    )
    epochs = [{**row, f"{EVIL}ce": 1.0} for row in EPOCHS]
    text = report_page(record, epochs)
    page = _Page(text)
    _check_by_itself(page, text)
    assert "\x1b" not in text
    clean = EVIL.replace("\x1b", "\\x1b")
    assert clean in page.texts["pre"][0]
    assert any(clean in point["data-use"].replace("'\"'\"'", "'") for point in page.points)
    assert json.loads(page.texts["pre"][-1].replace("\\x1b", "")) == [EVIL]


def test_many_losses_are_summed_and_numbers_that_are_none_left_out():
    row = {"epoch": 1.0, **{f"kl_{m}_random{n}": 1.0 for n in range(4) for m in (1, 2, 3)}}
    gap = {"epoch": 2.0, "ce_1": float("nan")}
    page = _Page(report_page(_record(None), [row, gap]))
    about = {point["data-about"] for point in page.points}
    assert about == {f"kl_{m}, epoch 1: 4" for m in (1, 2, 3)}
    page = _Page(report_page(_record(None), [gap]))
    assert page.points == []
    assert "holds no numbers to draw" in "".join(page.texts["p"])


def test_losses_are_summed_for_the_network_that_learned_from_them():
    edges = {str(edge): 1.0 for edge in dcm(3, ("C2",)).edges}
    row = {"epoch": 1.0, **edges, "kl_1_smallest": 1.0, "kl_2_width0.5": 1.0}
    page = _Page(report_page(_record(None), [row]))
    about = {point["data-about"].replace(", epoch 1", "") for point in page.points}
    assert about == {"ce_1: 2", "ce_2: 2", "ce_3: 2", "kl_1: 9", "kl_2: 9", "kl_3: 8"}
    alone = {"epoch": 1.0, "ce_largest": 1.0, **{f"kl_random{n}": 1.0 for n in range(1, 9)}}
    page = _Page(report_page(_record(None), [alone]))
    about = {point["data-about"] for point in page.points}
    assert about == {"ce, epoch 1: 1", "kl, epoch 1: 8"}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run") / "run"
    train(digits("space.width_step=0.75", "table.num_calibration_samples=64"), place, limit_steps=3)
    return place


def test_a_run_without_a_table_says_how_to_make_it_and_with_one_shows_it(run_folder, capsys):
    assert main(["report", str(run_folder)]) == 0
    assert "report.html" in capsys.readouterr().out
    text = (run_folder / "report.html").read_text()
    page = _Page(text)
    _check_by_itself(page, text)
    assert f"mutualnet table {run_folder}" in page.texts["code"]
    assert (run_folder / "config.yaml").read_text() in page.texts["pre"]
    assert "data_id" in page.texts["th"]
    assert main(["table", str(run_folder), "--full"]) == 0
    assert main(["report", str(run_folder), "-o", str(run_folder / "a.html")]) == 0
    page = _Page((run_folder / "a.html").read_text())
    rows = QueryTable.load(run_folder / "table.json").finished
    assert {str(row.subnet) for row in rows} <= set(page.texts["td"])
    assert any(point["data-about"].startswith("ce_largest, epoch 1: ") for point in page.points)


def test_networks_that_trained_together_have_a_page_each(tmp_path, capsys):
    train(pair(DCM), tmp_path / "pair", limit_steps=2)
    assert main(["report", str(tmp_path / "pair")]) == 2
    assert "holds several networks; name one of them" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "pair" / "network2")]) == 0
    page = _Page((tmp_path / "pair" / "network2" / "report.html").read_text())
    assert page.points  # of the common log


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "nothing must be a run directory that `mutualnet train` made, got nothing"),
        (["RUN", "-o", "no/a.html"], "--out must be a file that can be written, got no/a.html"),
        (["RUN", "-o", "RUN"], "--out must be a file that can be written"),
        (["RUN", "-o", "."], "got the folder '.'. Name one in it, such as report.html."),
        (["RUN", "-o", "/"], "got the folder '/'. Name one in it, such as /report.html."),
    ],
)
def test_mistakes_are_one_line(run_folder, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(str(run_folder) if word == "RUN" else word for word in words)]) == 2
    found = capsys.readouterr().err
    assert message in found
    assert found.count("\n") == 1


def test_a_damaged_log_is_named(run_folder, capsys):
    log = run_folder / "logs" / "metrics.csv"
    before = log.read_text()
    log.write_text("epoch,ce\n1,x\n")
    assert main(["report", str(run_folder)]) == 2
    assert "metrics.csv must be rows of numbers" in capsys.readouterr().err
    log.write_text(before)


def test_a_page_below_a_file_is_one_line(run_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["report", str(run_folder), "-o", str(tmp_path / "file" / "x.html")]) == 2
    assert "--out must be a file that can be written, got" in capsys.readouterr().err
