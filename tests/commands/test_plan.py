"""`mutualnet plan`: what to train for some budgets."""

from __future__ import annotations

from mutualnet.cli import main
from tests.typed import complaint


def test_plan_proposes_a_space_for_budgets(capsys):
    words = ["plan", "wrn16_1", "--num-classes", "10", "--resolutions", "16", "8"]
    assert main([*words, "--budgets", "10s,3M"]) == 0
    out = capsys.readouterr().out
    assert "proposed: --width-range" in out
    assert "3M multiply-adds" in out
    assert "no sub-network fits" in complaint(capsys, [*words, "--budgets", "1K"])
    assert "a budget needs a unit" in complaint(capsys, [*words, "--budgets", "5"])
    assert "--budgets must name at least one" in complaint(capsys, [*words, "--budgets", ","])
