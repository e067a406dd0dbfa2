"""Settings of the optimizer check themselves."""

from __future__ import annotations

import pytest

from mutualnet.config.optimizer import OptimizerConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0}, "lr must be > 0"),
        ({"epochs": 0}, "epochs must be >= 1"),
        ({"momentum": 1}, r"momentum must lie in \[0, 1\)"),
        ({"momentum": 0}, "nesterov needs a momentum"),
        ({"weight_decay": -1}, "weight_decay must be >= 0"),
        ({"layer_decay": 1.5}, r"layer_decay must lie in \(0, 1\] or be null, got 1.5"),
        ({"warmup_epochs": 2}, "warmup_epochs must lie in"),
        ({"schedule": "steps"}, "schedule must be one of cosine, linear, step, exponential, got"),
        ({"schedule": "step"}, "schedule=step needs milestones"),
        ({"milestones": (0,)}, r"milestones must be epochs >= 1, got \(0,\)"),
        ({"gamma": 0}, r"gamma must lie in \(0, 1\], got 0"),
        ({"accumulate": 0}, "accumulate must be >= 1, got 0"),
        ({"clip_norm": 0}, "clip_norm must be > 0 or null, got 0"),
        ({"ema_decay": 1}, r"ema_decay must lie in \(0, 1\) or be null, got 1"),
        ({"kwargs": {1: 2}}, "optimizer.kwargs must have names, got 1"),
        ({"kwargs": {"lr": 2}}, "must leave lr out, which is set by optimizer.lr"),
        ({"kwargs": {"nesterov": True}}, "must leave nesterov out"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**{"lr": 1, "epochs": 1, **values})


def test_an_optimizer_without_nesterov_may_have_an_argument_of_that_name():
    chosen = OptimizerConfig(lr=1, epochs=1, name="nadam", momentum=0, kwargs={"nesterov": True})
    assert chosen.kwargs == {"nesterov": True}
