"""`mutualnet table`: the grid of a run, scored and timed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mutualnet.cli import main
from mutualnet.run_directory import load_run
from tests.fixtures import write_folders
from tests.typed import SMALL, complaint


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A digits run of a few steps with its table."""
    out = tmp_path_factory.mktemp("runs") / "run"
    words = ["train", "digits_demo", "--out", str(out), "--limit-steps", "8"]
    words += ["--epochs", "2", "--seed", "1", "--set"]
    words += ["model.kwargs={depth: 10, width_factor: 1}", "space.resolutions=[12, 8]"]
    words += ["space.width_step=0.25", "compute.precision=fp32"]
    words += ["compute.memory_format=contiguous", "table.num_calibration_samples=64"]
    assert main([*words, "table.latency_runs=2"]) == 0
    assert main(["table", str(out)]) == 0
    return out


def test_the_table_holds_the_grid_and_the_files_are_there(run):
    content = json.loads((run / "table.json").read_text())
    assert len(content["rows"]) == 4 * 2
    for name in ("table.csv", "bn_bank.safetensors", "frontier.png"):
        assert (run / name).stat().st_size > 0
    assert not list(run.glob("*.partial"))


def test_the_full_table_finishes_every_row_in_fp32(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert main(["table", str(copy), "--full"]) == 0
    table = load_run(copy).table
    assert len(table.finished) == len(table.rows) == 4 * 2
    assert table.meta["format"] == "fp32 contiguous"
    assert "race" not in table.meta


def test_a_folder_that_cannot_be_written_is_told_before_the_work(run, capsys, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mutualnet.commands.table.TemporaryFile", refuse)
    text = complaint(capsys, ["table", str(run)])
    assert f"written into {run}, which must be writable, got Permission denied" in text


def test_a_table_that_cannot_be_saved_is_shown(run, tmp_path, capsys, monkeypatch):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)

    def refuse(run, table):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mutualnet.commands.table.save_table", refuse)
    assert main(["table", str(copy)]) == 1
    found = capsys.readouterr()
    assert "No space left" in found.err
    assert "1x12" in found.out


def test_a_table_finds_images_that_were_moved(tmp_path, capsys):
    before, after, out = tmp_path / "photos", tmp_path / "moved", str(tmp_path / "run")
    write_folders(before, train=12)
    words = ["train", "imagefolder_mobilenet_v1", "--data", str(before), "--out", out]
    words += ["--model", "wrn16_1", "--epochs", "1", "--limit-steps", "2", "--set"]
    words += ["space.resolutions=[16]", "space.width_step=0.75"]
    words += ["data.batch_size=4", "data.num_workers=0", "watch.every_epochs=0"]
    words += ["data.select_share=0.5", "compute.precision=fp32", "table.latency_runs=0"]
    assert main([*words, "compute.memory_format=contiguous"]) == 0
    before.rename(after)
    assert "The path is given by --data" in complaint(capsys, ["table", out])
    assert main(["table", out, "--data", str(after)]) == 0
    assert load_run(Path(out)).table is not None


def test_a_task_of_ones_own_is_found_in_the_folder_of_work(tmp_path, monkeypatch, capsys):
    """The page about it, followed word for word."""
    page = (Path(__file__).parents[2] / "docs" / "custom_task.md").read_text()
    (tmp_path / "rare.py").write_text(page.split("```python\n")[1].split("```")[0])
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits_demo", "--limit-steps", "2", "--out", "run", "--set", *SMALL]
    settings = ["task=rare:Rare", "space.resolutions=[12,8]", "space.width_step=0.75"]
    assert main([*words, *settings, "table.latency_runs=0"]) == 0
    assert "next: mutualnet table run --trust" in capsys.readouterr().out
    assert main(["table", "run", "--trust"]) == 0
    assert "mean class accuracy (%)" in capsys.readouterr().out
