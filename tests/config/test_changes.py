"""What a command changes of a recipe."""

from __future__ import annotations

import pytest

from mutualnet.config import RecipeChanges
from mutualnet.config.serialization import override
from mutualnet.recipes import load_recipe


@pytest.mark.parametrize(
    ("method", "expected"),
    [("dks", ("mutualnet", "dks")), ("independent", ("independent", "independent"))],
)
def test_a_way_of_teaching_may_still_be_named_by_method(method, expected, caplog):
    recipe = override(load_recipe("digits_demo"), ["teaching.method=deep_supervision"])

    def changed(**values):
        made = RecipeChanges(**values).apply(recipe)
        return made.method.name, made.teaching.method

    assert changed() == ("mutualnet", "deep_supervision")
    assert changed(method="us_net") == ("us_net", "deep_supervision")
    assert changed(method="independent", teaching="dks") == ("independent", "dks")
    assert not caplog.records
    assert changed(method=method) == expected
    assert f"is now chosen by --teaching {method}" in caplog.text
