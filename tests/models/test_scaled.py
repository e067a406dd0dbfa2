"""MobileNet v1 beyond its own width."""

from __future__ import annotations

import pytest

from mutualnet.cost import CostModel
from mutualnet.models import create_model
from mutualnet.recipes import load_recipe
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.supernet import Supernet


def test_the_scaled_networks_cost_what_the_paper_says():
    scaled = load_recipe("imagenet_mobilenet_v1_scaled")
    model = create_model(scaled.model.name, num_classes=1000, **scaled.model.kwargs)
    costs = CostModel(Supernet(model, scaled.space))
    gigas = {
        (1.0, 224): 0.569,
        (1.6, 288): 2.353,
        (2.0, 320): 4.521,
    }
    for (width, side), expected in gigas.items():
        found = costs.macs(Subnet(width_mult=width, resolution=side))
        assert found / 1e9 == pytest.approx(expected, abs=0.001)
    compound = load_recipe("imagenet_mobilenet_v1_compound")
    model = create_model(compound.model.name, num_classes=1000, **compound.model.kwargs)
    space = ElasticSpace(width_range=(0.5, 1.0), resolutions=(288,))
    full = CostModel(Supernet(model, space)).macs(Subnet(resolution=288))
    assert full / 1e9 == pytest.approx(2.3, abs=0.15)
