"""Stages are where the resolution changes."""

from __future__ import annotations

import pytest
import timm

from mutualnet.space import ElasticSpace
from mutualnet.supernet.supernet import Supernet


def test_stages_are_where_the_resolution_changes():
    net = Supernet(timm.create_model("resnet18", num_classes=4), ElasticSpace(resolutions=(64,)))
    names = [[net.plan.groups[n].name for n in stage.groups] for stage in net.plan.stages]
    assert [stage.side for stage in net.plan.stages] == [16, 8, 4, 2]
    assert names[0] == ["conv1", "layer1.0.conv1", "layer1.1.conv1"]
    # The first block halves the resolution in its second convolution: it counts as a whole.
    bottleneck = Supernet(timm.create_model("resnet26"), ElasticSpace(resolutions=(64,)))
    (stage,) = (s for s in bottleneck.plan.stages if s.side == 8)
    assert "layer2.0.conv1" in [bottleneck.plan.groups[n].name for n in stage.groups]


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("mobilenetv1_100", [32, 16, 8, 4, 2]),
        ("vgg11", [64, 32, 16, 8, 4]),  # the linear layers count with the last map
        ("convnext_atto", [16, 8, 4, 2]),
        ("vit_tiny_patch16_224", [4]),
    ],
)
def test_every_group_has_one_stage(name, sides):
    kwargs = {"img_size": 64} if name.startswith("vit") else {}
    model = timm.create_model(name, num_classes=4, **kwargs)
    net = Supernet(model, ElasticSpace(resolutions=(64,)))
    assert [stage.side for stage in net.plan.stages] == sides
    groups = sorted(n for stage in net.plan.stages for n in stage.groups)
    assert groups == list(range(len(net.plan.groups)))
