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


def test_another_network_starts_from_other_weights_as_the_error_says():
    recipe = override(load_recipe("cifar10_wrn16_1"), ["model.init=old"])
    with pytest.raises(ValueError, match=r"cannot start from old, .* Add --set model.init=null"):
        RecipeChanges(model="wrn16_4").apply(recipe)
    for text, init in (("null", None), ("new", "new")):
        changes = RecipeChanges(model="wrn16_4", settings=[f"model.init={text}"])
        model = changes.apply(recipe).model
        assert (model.name, model.init) == ("wrn16_4", init)
    pair = override(load_recipe("cifar100_wrn16_1_pair"), ["peers.0.model.init=old"])
    with pytest.raises(ValueError, match=r"Add --set peers.0.model.init=null"):
        RecipeChanges(model="wrn28_4").apply(pair)
    changes = RecipeChanges(model="wrn28_4", settings=["peers.0.model.init=null"])
    assert [model.init for model in changes.apply(pair).models] == [None, None]
