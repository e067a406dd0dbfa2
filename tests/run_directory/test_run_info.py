"""What a run says of itself must be whole."""

from __future__ import annotations

import json

import pytest

from mutualnet.config.serialization import write_recipe
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import load_run, networks_of
from mutualnet.table import QueryTable
from tests.typed import complaint

DEEP = "[" * 100_000 + "]" * 100_000


def test_deep_json_is_refused(tmp_path):
    write_recipe(load_recipe("digits_demo"), tmp_path / "config.yaml")
    (tmp_path / "run.json").write_text(DEEP)
    with pytest.raises(ValueError, match=r"run.json is damaged \(maximum recursion"):
        load_run(tmp_path)
    (tmp_path / "table.json").write_text(DEEP)
    with pytest.raises(ValueError, match="not a whole query table: maximum recursion"):
        QueryTable.load(tmp_path / "table.json")


@pytest.mark.parametrize("name", [3, None, ["a"], {}])
def test_names_of_networks_are_text(name, tmp_path):
    write_recipe(load_recipe("digits_demo"), tmp_path / "config.yaml")
    content = {"format": "mutualnet.peers", "format_version": 1, "networks": ["network1", name]}
    (tmp_path / "run.json").write_text(json.dumps(content))
    for read in (networks_of, load_run):
        with pytest.raises(ValueError, match=r"run.json is damaged"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "run.json is damaged"),
        ("[1, 2]", "run.json was not written by `mutualnet train`"),
        ('{"format": "mutualnet.peers", "format_version": 1}', "is damaged (no networks)"),
        (
            '{"format": "mutualnet.peers", "format_version": 1, "networks": 3}',
            "is damaged (no networks)",
        ),
        (
            '{"format": "mutualnet.run", "format_version": 1, "class_names": null}',
            "is damaged (no class_names)",
        ),
        (
            '{"format": "mutualnet.run", "format_version": 1, "class_names": ["a", "b"], '
            '"in_channels": true, "data_id": "x"}',
            "is damaged (no in_channels)",
        ),
    ],
)
def test_a_damaged_run_is_one_line(content, message, tmp_path, photo, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(load_recipe("digits_demo"), tmp_path / "config.yaml")
    (tmp_path / "run.json").write_text(content)
    place = str(tmp_path)
    assert message in complaint(capsys, ["table", place])
    assert message in complaint(capsys, ["predict", place, str(photo)])
    assert message in complaint(capsys, ["train", "digits_demo", "--teacher", place])
    assert message in complaint(capsys, ["train", "digits_demo", "--resume", "--out", place])
