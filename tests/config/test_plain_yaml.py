"""YAML that has one meaning and a bottom, and nothing else."""

from __future__ import annotations

import pytest

from mutualnet.config.plain_yaml import read_yaml
from mutualnet.config.serialization import override, read_recipe
from mutualnet.recipes import load_recipe

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DEEP, "more than 32 levels"),
        ("{a: " * 40 + "1" + "}" * 40, "more than 32 levels"),
        ("lr: 1\nseed: 2\nlr: 3", "the key lr stands twice"),
        ("a: {b: 1, 'b': 2}", "the key b stands twice"),
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("a: &x [*x]", "aliases are not allowed"),
        ("? [1]\n: 2", "unhashable"),
        ("a: 2020-13-45", "month must be"),
        ("a: " + "9" * 5000, "4300"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: \x00", "special characters"),
    ],
)
def test_yaml_of_two_meanings_or_no_bottom_is_refused(text, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        read_yaml(text)
    assert "\n" not in str(caught.value)
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"must hold YAML .*{message}"):
        read_recipe(path)
    with pytest.raises(ValueError, match=f"the value of model.kwargs must be YAML.*{message}"):
        override(load_recipe("digits_demo"), [f"model.kwargs={text}"])


def test_merged_mappings_and_every_recipe_are_plain():
    assert read_yaml("a: 1\nb: [2, {c: null}]") == {"a": 1, "b": [2, {"c": None}]}
    assert read_yaml("{a: {x: 1}, b: {x: 1}}") == {"a": {"x": 1}, "b": {"x": 1}}
