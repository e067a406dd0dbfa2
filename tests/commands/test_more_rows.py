"""`mutualnet table --add`: sub-networks of one's own choice beside the grid."""

from __future__ import annotations

import shutil

import pytest

from mutualnet.cli import main
from mutualnet.run_directory import load_run, read_record
from mutualnet.training import train
from tests.small_runs import digits
from tests.typed import complaint


@pytest.fixture
def run(run_folder, tmp_path):
    """A run with a full table, to write into."""
    return shutil.copytree(run_folder, tmp_path / "run")


def test_sub_networks_are_added_scored_and_calibrated_whatever_their_scores(run, capsys):
    before = read_record(run).table
    stages = "{stage_widths: [0.25, 1, 0.5], resolution: 8}"
    assert main(["table", str(run), "--add", "{width_mult: 0.43}", stages]) == 0
    loaded = load_run(run)
    added = [row for row in loaded.table.rows if row.found_by == "hand"]
    assert len(added) == 2
    assert {row.subnet for row in before.rows} < {row.subnet for row in loaded.table.rows}
    odd, staged = sorted(added, key=lambda row: row.subnet.resolution, reverse=True)
    assert (odd.subnet.width_mult, odd.subnet.resolution) == (
        0.43,
        loaded.recipe.space.resolutions[0],
    )
    assert dict(staged.subnet.group_widths) == loaded.supernet.stage_widths([0.25, 1, 0.5])
    for row in added:
        assert loaded.supernet.statistics(loaded.supernet.key(row.subnet)) is not None
    said = capsys.readouterr().out.partition("added:")[2]
    assert "0.43x12" in said
    assert f"{staged.score:.1f}" in said  # best for its cost or not
    assert main(["table", str(run), "--add", "{width_mult: 0.43}"]) == 0
    assert "0.43x12 is in the table already" in capsys.readouterr().out
    assert read_record(run).table == loaded.table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.4x12", "must be a mapping such as {width_mult: 0.5"),
        ("{width: 0.4}", "a Subnet has no field 'width'"),
        ("{width_mult: 7}", "width_mult must be in"),
        ("{width_mult: [1]}", "width_mult must be a number, got [1]"),
        ("{resolution: 13}", "resolution must be one of"),
        ("{group_widths: {nothing: 0.5}}", "nothing"),
        ("{group_widths: 3}", "group_widths must pair names with numbers, got 3"),
        ("{stage_widths: [1]}", "one width for each of 3 stages, got 1"),
        ("{stage_widths: 1}", "is no sub-network"),
        ("{stage_widths: [1, 1, 1], group_widths: {a: 1}}", "not both"),
        ("{width_mult: 1, width_mult: 1}", "stands twice"),
        ("{precision: int8}", "precision must be None"),
    ],
)
def test_what_is_none_of_the_space_is_refused(run_folder, capsys, text, message):
    said = complaint(capsys, ["table", str(run_folder), "--add", text])
    assert message in said


def test_the_table_is_kept_or_made_anew_not_both(run_folder, capsys):
    words = ["table", str(run_folder), "--full", "--add", "{width_mult: 0.4}"]
    assert "either --add, which keeps the table's rows, or --full" in complaint(capsys, words)


def test_rows_need_a_table(tmp_path, capsys):
    run = train(digits(), tmp_path / "run", limit_steps=2)
    said = complaint(capsys, ["table", str(run), "--add", "{width_mult: 0.4}"])
    assert f"has no table to add to yet. Make it: mutualnet table {run}" in said
