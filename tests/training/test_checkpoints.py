"""Checkpoints of a run: written whole, checked when read."""

from __future__ import annotations

import logging
import resource

import pytest
import torch

from mutualnet.training.checkpoints import latest_checkpoint, write_checkpoint


def _state(step):
    return {"step": step, "weights": torch.full((1000,), float(step))}


def test_the_newest_state_reads_back_and_two_are_kept(tmp_path):
    folder = tmp_path / "states"
    assert latest_checkpoint(folder) is None
    for step in (3, 20, 100):
        assert write_checkpoint(folder, step, _state(step)) is not None
    step, state = latest_checkpoint(folder)
    assert step == state["step"] == 100
    assert torch.equal(state["weights"], torch.full((1000,), 100.0))
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "changed", "deleted", "empty"])
def test_a_damaged_state_is_named_and_the_one_before_serves(tmp_path, caplog, damage):
    write_checkpoint(tmp_path, 1, _state(1))
    path = write_checkpoint(tmp_path, 2, _state(2))
    content = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        changed = content[:100] + bytes([content[100] ^ 1]) + content[101:]
        path.write_bytes({"truncated": content[:-50], "changed": changed, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        step, _ = latest_checkpoint(tmp_path)
    assert step == 1
    assert (path.name in caplog.text) == (damage != "deleted")


def test_damaged_states_never_cost_the_new_ones(tmp_path):
    for step in (900, 1000):
        write_checkpoint(tmp_path, step, _state(step)).write_bytes(b"broken")
    assert latest_checkpoint(tmp_path) is None
    for step in (1, 2, 3):
        write_checkpoint(tmp_path, step, _state(step))
    assert latest_checkpoint(tmp_path)[0] == 3
    assert len(list(tmp_path.glob("*.pt"))) == 2


def test_a_run_that_begins_anew_drops_the_states_of_the_old_one(tmp_path):
    write_checkpoint(tmp_path, 900, _state(900))
    write_checkpoint(tmp_path, 1, _state(1))
    assert latest_checkpoint(tmp_path)[0] == 1


def test_no_whole_state_is_none(tmp_path):
    path = write_checkpoint(tmp_path, 2, _state(2))
    path.write_bytes(b"nonsense")
    (tmp_path / "notes.txt").touch()
    assert latest_checkpoint(tmp_path) is None


def test_a_full_disk_keeps_the_last_good_state_and_names_it(tmp_path, caplog):
    good = write_checkpoint(tmp_path, 1, _state(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files makes real writes fail half-way, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with caplog.at_level(logging.WARNING):
            assert write_checkpoint(tmp_path, 2, _state(2)) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "the checkpoint of step 2 could not be written" in caplog.text
    assert str(good) in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == [good.name]
    assert latest_checkpoint(tmp_path)[0] == 1


def test_a_whole_state_of_other_versions_is_one_line(tmp_path):
    class Number(int):
        pass

    globals()["Number"] = Number
    Number.__qualname__ = "Number"
    write_checkpoint(tmp_path, 1, {"step": Number(1)})
    with pytest.raises(ValueError, match=r"checkpoint .*step-000000001.* cannot be read here"):
        latest_checkpoint(tmp_path)
