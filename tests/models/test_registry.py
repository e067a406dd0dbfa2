"""Networks by their names, or functions of one's own."""

from __future__ import annotations

import pickle

import pytest
import torch

from mutualnet.models import (
    create_model,
)


def test_a_network_has_as_many_classes_as_can_be_counted():
    with pytest.raises(ValueError, match=r"num_classes must be below 2\*\*31, got 999"):
        create_model("wrn16_1", num_classes=10**400 - 1)


def test_no_network_reads_a_pickle(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps({"a": print}))
    with pytest.raises(
        ValueError, match=r"never reads .* got checkpoint_path. In a recipe model.in"
    ):
        create_model("timm:resnet18", num_classes=3, checkpoint_path=str(path))
    with pytest.raises(
        ValueError, match="network wrn16_1 must take the arguments width_factor, got T"
    ):
        create_model("wrn16_1", num_classes=3, width_factor=[])


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("wrn16_1", "WideResNet"),
        ("mobilenet_v1_cifar", "EfficientNet"),
        ("timm:mobilenetv1_100", "EfficientNet"),
        ("mobilenetv1_100", "EfficientNet"),
        ("torchvision:resnet18", "ResNet"),
        ("torchvision:squeezenet1_1", "SqueezeNet"),
    ],
)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_network_is_built_by_name_for_any_number_of_channels(spec, kind, in_channels):
    model = create_model(spec, num_classes=4, in_channels=in_channels).eval()
    assert type(model).__name__ == kind
    assert model(torch.randn(1, in_channels, 64, 64)).shape == (1, 4)


def test_arguments_reach_the_network():
    assert create_model("timm:mobilenetv1_100", num_classes=4, drop_rate=0.5).drop_rate == 0.5
    assert create_model("mobilenet_v1_cifar", num_classes=4, width=0.5).num_features == 512


def test_networks_of_other_kinds_are_made_where_they_are_asked_for():
    name = "torchvision:lraspp_mobilenet_v3_large"
    with pytest.raises(ValueError, match="no network is called"):
        create_model(name, num_classes=4)
    model = create_model(name, num_classes=4, any_kind=True).eval()
    assert model(torch.zeros(1, 3, 64, 64))["out"].shape == (1, 4, 64, 64)
    with pytest.raises(
        ValueError, match="must be 3 for this network, got 1: it has no convolution"
    ):
        create_model("torchvision:r3d_18", num_classes=4, in_channels=1, any_kind=True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("wrn28_11", "no network is called 'wrn28_11'. Did you mean wrn28_10"),
        ("mobilenetv1_10", "Did you mean mobilenetv1_100"),
        ("timm:mobilenetv1_10", "Did you mean timm:mobilenetv1_100"),
        ("torchvision:resnet19", "Did you mean torchvision:resnet18"),
        ("timm:wrn16_1", "no network is called 'timm:wrn16_1'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no network is called"),
        ("qqqqq", "no network is called 'qqqqq'. Ours are densenet40_12, faster_rcnn, "),
        ("hf-hub:timm/resnet18", "must be timm:NAME, torchvision:NAME, a bare NAME or"),
        ("timm:hf-hub:timm/resnet18", "must be timm:NAME, torchvision:NAME, a bare NAME or"),
        ("no_such_package:net", r"got 'no_such_package:net' \(No module named"),
        ("mutualnet.models.cifar:wrn99", "got 'mutualnet.models.cifar:wrn99'"),
        ("builtins:dict", "must return an nn.Module, got dict"),
    ],
)
def test_an_unknown_name_is_refused_with_close_ones(spec, message):
    with pytest.raises(ValueError, match=message):
        create_model(spec, num_classes=10)


@pytest.mark.parametrize("argument", ["pretrained", "weights", "weights_backbone"])
def test_pretrained_weights_are_refused_because_nothing_is_downloaded(argument):
    with pytest.raises(ValueError, match=f"never reads or downloads weights, got {argument}"):
        create_model("timm:resnet18", num_classes=10, **{argument: True})


@pytest.mark.parametrize("argument", ["num_classes", "in_channels"])
def test_create_model_refuses_counts_below_one(argument):
    with pytest.raises(ValueError, match=f"{argument} must be >= 1, got 0"):
        create_model("wrn16_1", **{"num_classes": 10, argument: 0})


def test_a_function_of_ones_own_is_called_by_its_import_path():
    model = create_model("mutualnet.models.cifar:wrn16_1", num_classes=7, in_channels=1)
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 7)


OWN = """
from torch import nn

def fixed(width: int = 4) -> nn.Module:
    return nn.Conv2d(3, width, 1)

def by_classes(num_classes: int) -> nn.Module:
    return nn.Conv2d(3, num_classes, 1)

def by_all(**given: int) -> nn.Module:
    return nn.Conv2d(given["in_channels"], given["num_classes"], given["kernel"])
"""


def test_a_function_of_ones_own_gets_what_it_takes(tmp_path, monkeypatch):
    (tmp_path / "nets_of_mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def shape(name: str, **kwargs: int) -> tuple[int, ...]:
        model = create_model(f"nets_of_mine:{name}", num_classes=7, in_channels=2, **kwargs)
        return tuple(model.weight.shape)

    assert shape("fixed") == (4, 3, 1, 1)
    assert shape("fixed", width=5) == (5, 3, 1, 1)
    assert shape("by_classes") == (7, 3, 1, 1)
    assert shape("by_all", kernel=3) == (7, 2, 3, 3)
    with pytest.raises(ValueError, match=r"nets_of_mine:fixed must take .* 'depth'"):
        shape("fixed", depth=3)
