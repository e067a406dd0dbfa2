"""Numbers from outside are finite, and such that a machine can count to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mutualnet.config.data import DataConfig
from mutualnet.config.measurement import TableConfig
from mutualnet.config.optimizer import OptimizerConfig
from mutualnet.config.serialization import override
from mutualnet.numbers import check_countable, in_digits
from mutualnet.recipes import load_recipe


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_no_number_of_a_recipe_may_be_infinite(value):
    recipe = load_recipe("digits_demo")
    keys = []
    for name, part in vars(recipe).items():
        fields = vars(part).items() if hasattr(part, "__dict__") else [("", part)]
        keys += [f"{name}.{key}".rstrip(".") for key, own in fields if isinstance(own, float)]
    assert {"data.mixup_alpha", "optimizer.lr", "teacher.tau", "checkpoint_minutes"} <= set(keys)
    for key in [*keys, "optimizer.clip_norm", "optimizer.ema_decay", "model.kwargs"]:
        text = f"{{a: [{value}]}}" if key == "model.kwargs" else value
        with pytest.raises(ValueError, match=f"{key.split('.')[-1]} must .*(inf|nan)"):
            override(recipe, [f"{key}={text}"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataConfig(name="digits", batch_size=10**400),
        lambda: OptimizerConfig(lr=1, epochs=2**53),
        lambda: TableConfig(latency_runs=2**60),
        lambda: replace(load_recipe("digits_demo"), seed=2**64),
    ],
)
def test_counts_are_those_that_a_machine_can_count(make):
    with pytest.raises(ValueError, match=r"must lie below 2\*\*53"):
        make()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.num_workers=100000000", "num_workers must be >= 0 and <= 1024"),
        ("method.num_random=1000000", "num_random must be >= 0 and <= 1024"),
        (
            "space.resolutions=null",
            "space.resolutions must be a list, each a whole number, got null",
        ),
        ("data.batch_size=null", "data.batch_size must be a whole number, got null"),
        ("optimizer.lr=1.0e+300", "optimizer.lr must be a finite number"),
        ("optimizer.weight_decay=1.0e+300", "optimizer.weight_decay must be a finite number"),
    ],
)
def test_numbers_that_no_machine_serves_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        override(load_recipe("digits_demo"), [setting])


def test_large_whole_numbers_are_found_in_lists_and_mappings():
    check_countable("a", [{"b": 2**53 - 1}, "text", None, 1e300])
    with pytest.raises(ValueError, match=r"a must lie below 2\*\*53"):
        check_countable("a", [{"b": -(2**53)}])


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (54518.6, 4, "54519"),  # a video network's millions of multiply-adds
        (9999.7, 4, "10000"),
        (568.74, 4, "568.7"),
        (1234.5, 3, "1234"),
        (999.7, 3, "1000"),
        (0.00456, 3, "0.00456"),
        (150.0, 4, "150"),
        (0, 3, "0"),
    ],
)
def test_long_numbers_are_written_without_an_exponent(value, digits, text):
    assert in_digits(value, digits) == text
