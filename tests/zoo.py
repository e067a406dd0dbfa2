"""The networks that properties are tested over, and the smallest input that suits each."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from timm.models.densenet import DenseNet
from torch import Tensor, nn

from mutualnet.models.cifar import mobilenet_v1_cifar_8x8, wrn16_1, wrn16_4
from mutualnet.models.cifar_densenet import CifarDenseNet
from mutualnet.models.cifar_resnet import CifarResNet
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.supernet import Supernet


def _timm(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=10)


ZOO: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "mobilenetv1_100": (_timm("mobilenetv1_100"), 64),
    "mobilenetv2_100": (_timm("mobilenetv2_100"), 64),
    "resnet18": (_timm("resnet18"), 64),
    "resnet50": (_timm("resnet50"), 64),
    # A narrower classifier than the original's, whose 120 M weights would only take time.
    "vgg16": (lambda: timm.create_model("vgg16", num_classes=10, mlp_ratio=0.125), 64),
    "efficientnet_b0": (_timm("efficientnet_b0"), 64),
    "mobilenetv3_large_100": (_timm("mobilenetv3_large_100"), 64),
    "densenet121": (_timm("densenet121"), 64),
    "wrn16_4": (lambda: wrn16_4(10), 32),
    # Few layers of each kind: what is tied does not depend on the depth.
    "resnet_cifar": (lambda: CifarResNet(14, 10), 16),
    "resnet_cifar_bottleneck": (lambda: CifarResNet(20, 10, bottleneck=True), 16),
    "densenet_cifar": (lambda: CifarDenseNet(13, 12, 10), 16),
    "mobilenet_v1_cifar_8x8": (lambda: mobilenet_v1_cifar_8x8(10), 16),
}


def build(name: str) -> tuple[nn.Module, ElasticSpace]:
    """A fresh network and a space at its smallest input."""
    torch.manual_seed(0)
    make, side = ZOO[name]
    return make(), ElasticSpace(resolutions=(side,))


def images(space: ElasticSpace, count: int = 2) -> Tensor:
    """A batch of noise at the top resolution."""
    side = space.resolutions[0]
    return torch.randn(count, 3, side, side)


def at(space: ElasticSpace, width: float) -> Subnet:
    """A sub-network at the top resolution."""
    return Subnet(width_mult=width, resolution=space.resolutions[0])


def small() -> Supernet:
    """A network without concatenations that runs in a millisecond."""
    torch.manual_seed(0)
    return Supernet(wrn16_1(4), ElasticSpace(resolutions=(16, 8)))


def small_dense() -> Supernet:
    """A network with concatenations, whose parameters are partly gathered."""
    torch.manual_seed(0)
    model = DenseNet(growth_rate=16, block_config=(2, 2), num_classes=4)
    return Supernet(model, ElasticSpace(resolutions=(32,)))


BOTH = pytest.mark.parametrize("make", [small, small_dense])
"""A network of views alone, and one with gathered parameters."""


def gradients(supernet: Supernet) -> dict[str, torch.Tensor]:
    """Of the full parameters, as they are now."""
    return {n: p.grad.clone() for n, p in supernet.model.named_parameters() if p.grad is not None}


def one_pass(supernet: Supernet, x: torch.Tensor, width: float = 0.5) -> dict[str, torch.Tensor]:
    """Gradients of one pass, from a copy with nothing accumulated."""
    fresh = copy.deepcopy(supernet)
    fresh.zero_grad()
    fresh.subnet(at(fresh.space, width)).train()(x).square().sum().backward()
    return gradients(fresh)


def elastic_depth(*depths: float) -> Supernet:
    """A network whose last blocks of a stage can be left out."""
    torch.manual_seed(0)
    return Supernet(wrn16_1(4), ElasticSpace(resolutions=(16, 8), depths=depths or (1, 0.5)))
