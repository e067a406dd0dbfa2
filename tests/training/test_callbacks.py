"""What is shown while a run trains."""

from __future__ import annotations

from mutualnet.training.train import train
from tests.small_runs import (
    SHORT,
    WATCHED,
    digits,
    read_log,
)


def test_the_bar_shows_the_latest_scores(tmp_path, monkeypatch):
    shown = []

    def update(self, line, **fields):
        shown.append(fields)

    monkeypatch.setattr("mutualnet.training.callbacks.Progress.update", update)
    monkeypatch.setattr(
        "mutualnet.training.callbacks.time.monotonic", lambda: 1e9 * (1 + len(shown))
    )
    recipe = digits(WATCHED, SHORT, "optimizer.epochs=2")
    train(recipe, tmp_path / "run", progress=True)
    assert [fields["epoch"] for fields in shown] == ["1/2"] * 2 + ["2/2"] * 2
    assert shown[0]["scores"] == ""
    first = read_log(tmp_path / "run")[0]
    expected = " / ".join(
        f"{float(first[f'select_{role}']):.1f}" for role in ("largest", "smallest")
    )
    assert shown[2]["scores"] == f"select {expected}"
