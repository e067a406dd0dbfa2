"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mutualnet.config.optimizer import OptimizerConfig
from mutualnet.config.transforms import with_epochs
from mutualnet.recipes import load_recipe
from mutualnet.training.schedules import learning_rate_factor


def _factors(total: int, steps_per_epoch: int = 5, **settings: object) -> list[float]:
    config = OptimizerConfig(lr=1.0, epochs=10, **settings)  # type: ignore[arg-type]
    return [
        learning_rate_factor(config, s, steps_per_epoch=steps_per_epoch, total_steps=total)
        for s in range(total)
    ]


def test_the_rate_rises_linearly_then_falls_by_half_a_cosine():
    got = _factors(14, steps_per_epoch=4, warmup_epochs=1.0)
    assert got[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert got[4:] == pytest.approx([0.5 * (1 + math.cos(math.pi * s / 10)) for s in range(10)])


def test_linear_falls_to_zero_by_equal_steps():
    assert _factors(10, schedule="linear") == pytest.approx([1 - s / 10 for s in range(10)])


def test_steps_fall_at_their_milestones_and_exponential_after_every_epoch():
    got = _factors(50, schedule="step", milestones=(2, 6), gamma=0.2)
    assert got == pytest.approx([1.0] * 10 + [0.2] * 20 + [0.04] * 20)
    got = _factors(15, schedule="exponential", gamma=0.98)
    assert got == pytest.approx([1.0] * 5 + [0.98] * 5 + [0.98**2] * 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "step"}, "schedule=step needs milestones"),
        ({"schedule": "sudden"}, "schedule must be one of cosine, linear, step, exponential"),
        ({"milestones": (0,)}, "milestones must be epochs >= 1"),
        ({"gamma": 0.0}, r"gamma must lie in \(0, 1\]"),
        ({"accumulate": 0}, "accumulate must be >= 1"),
        ({"clip_norm": 0.0}, "clip_norm must be > 0 or null"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \(0, 1\)"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(lr=0.1, epochs=2, **settings)


def test_fewer_epochs_keep_the_shares_of_milestones_and_most_of_the_warm_up():
    recipe = load_recipe("digits_demo")
    optimizer = replace(
        recipe.optimizer, epochs=200, warmup_epochs=10, schedule="step", milestones=(60, 120, 160)
    )
    short = with_epochs(replace(recipe, optimizer=optimizer), 20).optimizer
    assert (short.epochs, short.warmup_epochs, short.milestones) == (20, 5.0, (6, 12, 16))
    assert with_epochs(recipe, 120).optimizer.warmup_epochs == recipe.optimizer.warmup_epochs
