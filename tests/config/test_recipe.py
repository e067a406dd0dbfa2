"""Recipes by name, and the names that they may have."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest

from mutualnet.config import ComputeConfig, recipe
from mutualnet.recipes import load_recipe
from mutualnet.tasks import TASKS


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit_demo", "no recipe is called 'digit_demo'. Did you mean digits_demo"),
        ("none.yaml", "no recipe file none.yaml"),
        ("no_such_module:f", "recipe 'no_such_module:f' cannot be imported"),
        ("builtins:dict", "builtins:dict must return a Recipe, got dict"),
    ],
)
def test_an_unknown_recipe_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(name)


def test_a_function_of_ones_own_gives_a_recipe():
    assert load_recipe("mutualnet.recipes.digits:digits_demo") == load_recipe("digits_demo")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a\nb", "x" * 101, "-rf", "a\\b"])
def test_the_name_of_a_recipe_is_one_of_a_directory(name):
    with pytest.raises(ValueError, match="name must begin with a letter or digit"):
        replace(load_recipe("digits_demo"), name=name)
    assert replace(load_recipe("digits_demo"), name="Ünïcode 1.5_x").name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precision": "fp16"}, "precision must be one of auto, fp32, bf16, got 'fp16'"),
        ({"memory_format": "nhwc"}, "memory_format must be one of auto, contiguous, channels_last"),
    ],
)
def test_a_format_that_is_none_is_refused_in_python_too(values, message):
    with pytest.raises(ValueError, match=message):
        ComputeConfig(**values)


def test_the_text_of_the_task_names_all_of_them():
    text = inspect.getsource(recipe)
    text = text[text.index('task: str = "') : text.index("label_smoothing: float")]
    assert all(f"`{name}`" in text for name in TASKS)
