"""The data of a finished run, found again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mutualnet.commands import make_table
from mutualnet.training import run_data
from mutualnet.training.train import train
from tests.small_runs import digits


def test_data_without_a_path_are_called_by_their_name(tmp_path, monkeypatch):
    run = train(digits("table.latency_runs=0"), tmp_path / "run", limit_steps=1)
    load = run_data.load_splits
    monkeypatch.setattr(run_data, "load_splits", lambda r: replace(load(r), data_id="others"))
    with pytest.raises(ValueError, match=r"^digits must hold the data that"):
        make_table(run)
