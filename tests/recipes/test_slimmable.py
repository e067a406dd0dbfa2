"""Slimmable networks as in their paper."""

from __future__ import annotations

import pytest

from mutualnet.cost import CostModel
from mutualnet.models import create_model
from mutualnet.recipes import load_recipe
from mutualnet.space import Subnet
from mutualnet.supernet.supernet import Supernet

_MOBILE = (480, 160, 0.045, "exponential", (), 0.98, "standard")

SLIMMABLE = {
    # name: widths, then epochs, batch, rate, schedule, milestones, factor, augmentation, and M MACs
    "imagenet_mobilenet_v1_s_net": ((1, 0.75, 0.5, 0.25), *_MOBILE, (569, 325, 150, 41)),
    "imagenet_mobilenet_v2_s_net": ((1, 0.75, 0.5, 0.35), *_MOBILE, (301, 209, 97, 59)),
    "imagenet_resnet50_s_net": (
        (1, 0.75, 0.5, 0.25),
        *(100, 256, 0.1, "step", (30, 60, 90), 0.1, "wide_crop"),
        (4089, 2323, 1052, 278),
    ),
}


@pytest.mark.parametrize("name", SLIMMABLE)
def test_settings_of_slimmable_networks_are_the_papers(name):
    recipe = load_recipe(name)
    widths, *settings, augment, macs = SLIMMABLE[name]
    assert (recipe.space.widths, recipe.space.resolutions) == (widths, (224,))
    optimizer = recipe.optimizer
    assert settings == [
        optimizer.epochs,
        recipe.data.batch_size,
        optimizer.lr,
        optimizer.schedule,
        optimizer.milestones,
        optimizer.gamma,
    ]
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
    assert (optimizer.weight_decay, optimizer.decay_all) == (1e-4, False)
    assert recipe.data.augment == augment
    method = recipe.method.value
    assert (recipe.method.name, method.distills, method.owns_norms) == ("s_net", False, True)
    costs = CostModel(Supernet(create_model(recipe.model.name, num_classes=1000), recipe.space))
    for width, expected in zip(widths, macs, strict=True):
        assert costs.macs(Subnet(width_mult=width)) / 1e6 == pytest.approx(expected, abs=1)
