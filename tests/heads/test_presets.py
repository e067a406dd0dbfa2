"""The published heads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutualnet.heads.auxiliary import AuxiliaryHeads
from mutualnet.heads.presets import (
    HEAD_PRESETS,
    cifar_resnet_heads,
    head_preset,
    mobilenet_v1_cifar_heads,
)
from mutualnet.models import create_model
from mutualnet.teaching import OUTPUT


def _million(module: nn.Module) -> float:
    return round(sum(p.numel() for p in module.parameters()) / 1e6, 2)


def _heads(name, heads, num_classes=100, side=32):
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes)
        images = torch.zeros(1, 3, side, side)
        return AuxiliaryHeads(model, heads, num_classes=num_classes, images=images)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("wrn28_10", {"C2": 107.46, "C3": 20.15, "C4": 18.10}),
        ("wrn28_4", {"C2": 17.23, "C3": 3.24}),
        ("mobilenet_v1_cifar_8x8", {"C2": 5.48, "C3": 2.64}),
    ],
)
def test_heads_have_the_published_params(name, sizes):
    heads = _heads(name, head_preset(name, tuple(sizes)))
    assert {head: _million(heads[head]) for head in sizes} == pytest.approx(sizes, abs=0.0051)


def test_mobilenets_c3_has_more_blocks_by_the_table():
    heads = mobilenet_v1_cifar_heads(num_repeats=5)
    assert _million(_heads("mobilenet_v1_cifar_8x8", heads)["C3"]) == 3.18


def test_bottlenecks_of_resnet164_are_uniform_as_printed():
    printed = _heads("resnet164_cifar", cifar_resnet_heads(164, bottleneck=True, uniform=True))
    # 18 blocks of 1x1, 3x3 and 1x1 convolutions with 512 channels each, on 128 of stage 2.
    convolutions = (128 + 17 * 512) * 512 + 18 * (9 + 1) * 512**2 + 128 * 512
    assert _million(printed["C2"]) == pytest.approx(convolutions / 1e6, rel=0.01)
    ours = _heads("resnet164_cifar", head_preset("resnet164_cifar"))
    assert 2.5 < _million(ours["C2"]) / 1.73 < 3.5


SIDES = {"resnet18": 64, "resnet50": 64, "mobilenetv2_100": 64, "torchvision:mobilenet_v2": 64}


@pytest.mark.parametrize("name", sorted(HEAD_PRESETS))
def test_heads_lower_the_resolution_as_often_as_their_network(name):
    maps = {}

    def keep(key):
        def hook(_, inputs, output):
            maps.setdefault(key, []).append(tuple(inputs[0].shape[-2:]))

        return hook

    names = tuple(HEAD_PRESETS[name]())
    with torch.device("meta"):
        model = create_model(name, num_classes=10)
        images = torch.zeros(2, 3, SIDES.get(name, 32), SIDES.get(name, 32))
        heads = AuxiliaryHeads(model, head_preset(name, names), num_classes=10, images=images)
        for key, module in (("main", model), *heads.items()):
            for part in module.modules():
                if isinstance(part, nn.AdaptiveAvgPool2d):
                    part.register_forward_hook(keep(key))
        if name.startswith("torchvision"):  # pools by a function, before its classifier
            model.features[-1][0].register_forward_hook(keep("main"))
        outputs = heads.outputs(model, images)
    assert set(maps) == {"main", *names}
    assert len({sizes[-1] for sizes in maps.values()}) == 1, maps
    assert {key: tuple(value.shape) for key, value in outputs.items()} == dict.fromkeys(
        (OUTPUT, *names), (2, 10)
    )


@pytest.mark.parametrize("name", ["wrn28_10", "resnet110_cifar", "densenet40_12", "timm:resnet18"])
def test_variants_are_smaller(name):
    standard, narrow, apfc = (
        _heads(name, head_preset(name, ("C2", "C3"), variant))
        for variant in ("standard", "narrow", "apfc")
    )
    for head in ("C2", "C3"):
        assert _million(narrow[head]) < 0.55 * _million(standard[head])
        kinds = [type(m) for m in apfc[head].modules()]
        assert kinds.count(nn.Linear) == 1
        assert nn.Conv2d not in kinds
        assert apfc[head][-3].output_size == 4
        assert apfc[head][-1].in_features % 16 == 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_q_counts_heads_from_the_last_stage_on(count):
    names = ("C2", "C3", "C4")[:count]
    assert set(head_preset("wrn28_4", names)) == set(names)
