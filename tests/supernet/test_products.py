"""Multiply-adds by the followed channels, against a count of what the narrow networks dispatch."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mutualnet.cost import CostModel
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet import Supernet


class Functional(nn.Module):
    """Convolutions that are called as functions, one with a weight that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(32, 32, 3, 3))
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        x = nn.functional.conv2d(self.stem(x), weight, padding=1)
        return self.head(x.mean((2, 3)))


NETWORKS = {
    "mobilenetv2": (lambda: timm.create_model("mobilenetv2_050", num_classes=10), (3, 64, 64)),
    "resnext": (lambda: timm.create_model("resnext26ts", num_classes=10), (3, 64, 64)),
    "shuffles": (lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10), (3, 64, 64)),
    "clips": (lambda: torchvision.models.video.r3d_18(num_classes=10), (3, 4, 32, 32)),
    "functions": (Functional, (3, 16, 16)),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_count_is_that_of_the_narrow_network_itself(name):
    make, shape = NETWORKS[name]
    side = shape[-1]
    net = Supernet(make(), ElasticSpace(resolutions=(side,)), example_input=torch.zeros(1, *shape))
    cost = CostModel(net)
    for width in (0.25, 0.6, 1.0):
        subnet = Subnet(width_mult=width, resolution=side)
        narrow = net.extract(subnet, uncalibrated=True).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            narrow(torch.zeros(1, *shape))
        assert 2 * cost.macs(subnet) == counter.get_total_flops()
        assert cost.params(subnet) == sum(p.numel() for p in narrow.parameters())
