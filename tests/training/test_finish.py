"""The end of a run: scored, written, and not lost if that fails."""

from __future__ import annotations

import pytest

from mutualnet.training.train import train
from tests.small_runs import DCM, assert_same_weights, pair


def test_training_is_not_lost_if_scoring_fails(tmp_path, monkeypatch):
    whole = train(pair(DCM), tmp_path / "whole", limit_steps=3)
    with monkeypatch.context() as patch:
        patch.setattr("mutualnet.training.finish.score_here", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError) as caught:
            train(pair(DCM, "checkpoint_minutes=60"), tmp_path / "run", limit_steps=3)
    assert "continue with --resume" in caught.value.__notes__[0]
    out = train(pair(DCM, "checkpoint_minutes=60"), tmp_path / "run", limit_steps=3, resume=True)
    for name in ("network1", "network2"):
        assert_same_weights(whole / name, out / name)
    assert not (out / "checkpoints").exists()
