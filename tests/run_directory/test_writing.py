"""What is written into a run is there whole, or an error says where it is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutualnet.run_directory import load_run, save_heads, save_plot, seal_run
from mutualnet.training import train
from tests.small_runs import digits


def test_what_the_disk_refuses_names_the_file(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def refuse(*_):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("mutualnet.run_directory.writing.save_model", refuse)
    with pytest.raises(OSError, match=r"heads.safetensors could not be written \(No space left"):
        save_heads(tmp_path, nn.Linear(2, 2))


def test_a_picture_that_fails_leaves_the_old_one_and_its_checksum(tmp_path):
    out = train(digits("space.resolutions=[8]"), tmp_path / "run", limit_steps=1)
    seal_run(out)
    run = load_run(out)
    place = save_plot(run, lambda path: path.write_bytes(b"first") and None)
    sums = (out / "SHA256SUMS").read_text()
    assert "frontier.png" in sums

    def fail(path):
        path.write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        save_plot(run, fail)
    assert place.read_bytes() == b"first"
    assert (out / "SHA256SUMS").read_text() == sums
    assert torch.equal(load_run(out).supernet.model.stem.weight, run.supernet.model.stem.weight)
