"""Settings of the network check themselves."""

from __future__ import annotations

import pytest

from mutualnet.config.model import ModelConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kwargs": {1: 2}}, "model.kwargs must have names, got 1"),
        ({"kwargs": {"num_classes": 2}}, "must leave num_classes out, which the data decide"),
        ({"kwargs": {"in_channels": 1}}, "must leave in_channels out, which the data decide"),
        ({"weight_init": "he"}, "weight_init must be one of default, mutualnet, dcm, got 'he'"),
        ({"sort_channels": "l3"}, "sort_channels must be one of auto, none, l1, l2, taylor, got"),
        ({"sort_channels": "l1"}, "orders the channels of trained weights, but model.init names"),
        ({"init_lr_mult": 2}, r"init_lr_mult must lie in \[0, 1\], got 2"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(name="wrn16_1", **values)


def test_trained_weights_may_be_sorted():
    assert ModelConfig(name="wrn16_1", init="run", sort_channels="l1").sort_channels == "l1"
