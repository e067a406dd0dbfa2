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
from tests.supernet.hard_models import LastState, Toy


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


class OverChannels(nn.Module):
    """A kernel slides over the channels, as in ECA, and weighs them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.slide = nn.Conv2d(3, 32, 1), nn.Conv1d(1, 1, 3, padding=1)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.stem(x).mean((2, 3))
        return self.head(pooled * self.slide(pooled[:, None])[:, 0])


NETWORKS = {
    "mobilenetv2": (lambda: timm.create_model("mobilenetv2_050", num_classes=10), (3, 64, 64)),
    "resnext": (lambda: timm.create_model("resnext26ts", num_classes=10), (3, 64, 64)),
    "shuffles": (lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10), (3, 64, 64)),
    "clips": (lambda: torchvision.models.video.r3d_18(num_classes=10), (3, 4, 32, 32)),
    "functions": (Functional, (3, 16, 16)),
    "a kernel over channels": (OverChannels, (3, 16, 16)),
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


RECURRENT = {
    "lstm": (nn.LSTM, 4, 2, True),
    "gru": (nn.GRU, 3, 1, False),
    "plain": (nn.RNN, 1, 1, True),
}


@pytest.mark.parametrize("name", sorted(RECURRENT))
def test_a_recurrent_layer_counts_each_gate_at_each_step(name):
    kind, gates, num_layers, is_bidirectional = RECURRENT[name]
    directions = 2 if is_bidirectional else 1

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 32, 1, bias=False)
            self.read = kind(32, 24, num_layers, bidirectional=is_bidirectional, batch_first=True)
            self.head = nn.Linear(24 * directions, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.read(self.stem(x).mean(2).transpose(1, 2))[0].mean(1))

    cost = CostModel(Supernet(Net(), ElasticSpace(resolutions=(16,))))

    def expected(channels: int, hidden: int) -> int:
        steps, total = 16, 16 * 16 * 3 * channels + directions * hidden * 4
        for layer in range(num_layers):
            entering = channels if layer == 0 else directions * hidden
            total += directions * steps * gates * hidden * (entering + hidden)
        return total

    assert cost.macs(Subnet(width_mult=1.0, resolution=16)) == expected(32, 24)
    assert cost.macs(Subnet(width_mult=0.5, resolution=16)) == expected(16, 16)  # 12 rounds to 16


def test_a_recurrent_layer_that_reads_channel_by_channel_counts_those_that_are_left():
    net = Supernet(Toy(LastState()), ElasticSpace(resolutions=(16,)))
    narrow = Subnet(width_mult=0.25, resolution=16)
    counted = CostModel(net).macs(narrow)
    others = (16 * 16) * (3 * 8 * 9 + 8 * 8 * 9) + 8 * 6 + 8 * 4
    assert counted - others == 8 * 16 * (24 * 1 + 24 * 6)
