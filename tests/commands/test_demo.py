"""`mutualnet demo`, on a network of two steps."""

from __future__ import annotations

import sys

import pytest

import mutualnet.commands  # noqa: F401
from mutualnet.cli import main
from mutualnet.training import train
from tests.small_runs import StoppedError, digits, stop_after
from tests.typed import complaint


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Train a smaller network for less time."""
    recipe = digits(
        "space.width_step=0.75", "table.num_calibration_samples=64", "checkpoint_minutes=0"
    )

    def start(name, *, out, resume):
        assert name == "digits_demo"
        train(recipe, out, limit_steps=2, resume=resume)

    monkeypatch.setattr(sys.modules["mutualnet.commands.demo"], "start_training", start)


def test_it_predicts_under_three_budgets_and_writes_over_its_own_folder_alone(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("within ") == 3
    assert printed.count("images/a_") == 9
    assert f"plot: {out}/frontier.png" in printed
    (out / "left").touch()
    assert main(["demo", "--out", str(out)]) == 0
    assert not (out / "left").exists()
    (out / ".mutualnet-demo").unlink()
    said = complaint(capsys, ["demo", "--out", str(out)])
    assert f"{out} must be free or hold an earlier demo, got something else" in said
    assert (out / "table.json").is_file()


def test_an_interrupted_one_goes_on(tmp_path, capsys, monkeypatch):
    out = tmp_path / "demo"
    with monkeypatch.context() as patch, pytest.raises(StoppedError) as caught:
        stop_after(patch, 1)
        main(["demo", "--out", str(out)])
    (note,) = caught.value.__notes__
    assert note.endswith("type the same again.")
    assert "--resume" not in note
    assert main(["demo", "--out", str(out)]) == 0
    assert (out / "table.json").is_file()
