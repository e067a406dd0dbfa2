"""A network of which a part alone is elastic, and what networks are traced with."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mutualnet.cost import CostModel
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet import Supernet
from mutualnet.supernet.examples import first_tensor

SPACE = ElasticSpace(width_range=(0.25, 1.0), resolutions=(16, 8))
HALF = Subnet(width_mult=0.5, resolution=8)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 1, 1),
            nn.ReLU(),
        )
        self.neck = nn.Conv2d(32, 8, 1)

    def forward(self, x):
        return self.neck(self.layers(x))


class Detector(nn.Module):
    """Takes a list of images; its heads see what its backbone makes of them."""

    elastic_part = "backbone"
    counted_part = "backbone.layers"

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Body()
        self.head = nn.Sequential(nn.Conv2d(8, 24, 1), nn.BatchNorm2d(24), nn.Conv2d(24, 2, 1))

    def forward(self, images):
        return [self.head(self.backbone(image[None])).mean((2, 3))[0] for image in images]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Supernet(Detector(), SPACE).eval()


def test_the_rest_is_shared_at_every_width(net):
    half = dict(net.extract(HALF, uncalibrated=True).named_parameters())
    for name, full in net.model.named_parameters():
        if name.startswith("head.") or name == "backbone.neck.bias":
            torch.testing.assert_close(half[name], full, rtol=0, atol=0)
    assert half["backbone.layers.3.weight"].shape == (16, 8, 3, 3)
    assert half["backbone.neck.weight"].shape == (8, 16, 1, 1)
    assert "all outside of backbone" in net.report()
    assert [group.name for group in net.plan.groups] == ["backbone.layers.0", "backbone.layers.3"]


def test_switched_equals_extracted_and_the_whole_is_unchanged_at_full_width(net):
    images = [torch.randn(3, 8, 12), torch.randn(3, 10, 8)]
    switched, own = net.subnet(HALF).train(), net.extract(HALF, uncalibrated=True).train()
    for a, b in zip(switched(images), own(images), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    full = net.subnet(SPACE.largest).eval()
    for a, b in zip(full(images), copy.deepcopy(net.model)(images), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_cost_is_that_of_the_counted_part_on_a_square(net):
    costs = CostModel(net)
    assert costs.macs(SPACE.largest) == 8 * 8 * (9 * 3 * 16 + 9 * 16 * 32)
    assert costs.macs(HALF) == 4 * 4 * (9 * 3 * 8 + 9 * 8 * 16)
    of_part = CostModel(Supernet(Detector(), SPACE, counted_part="backbone"))
    assert of_part.macs(HALF) == costs.macs(HALF) + 4 * 4 * 16 * 8
    assert costs.params(HALF) == sum(
        p.numel() for p in net.extract(HALF, uncalibrated=True).parameters()
    )


def test_statistics_of_the_shared_heads_are_each_subnetworks_own(net):
    names = [name for name, _ in net.model.named_modules() if name.endswith(".1")]
    assert names == ["backbone.layers.1", "head.1"]
    statistics = net.statistics(net.key(SPACE.largest))
    assert statistics is not None
    assert len(statistics.mean) == 16 + 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"elastic_part": "bone"}, "elastic_part must name a submodule of the model, got 'bone'"),
        ({"counted_part": "head"}, "counted_part must lie in the elastic part 'backbone'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Supernet(Detector(), SPACE, **arguments)


class Clips(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv3d(3, 16, 3, (1, 2, 2), 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(16, 2),
        )


def test_clips_have_the_frames_of_the_subnetwork():
    net = Supernet(Clips(), ElasticSpace(resolutions=(16, 8), frames=(6, 4)))
    assert net.example_input(net.space.largest).shape == (1, 3, 6, 16, 16)
    small = Subnet(width_mult=0.5, resolution=8, num_frames=4)
    assert net.example_input(small).shape == (1, 3, 4, 8, 8)
    costs = CostModel(net)
    assert costs.macs(net.space.largest) == 6 * 8 * 8 * 27 * 3 * 16 + 16 * 2
    assert costs.macs(small) == 4 * 4 * 4 * 27 * 3 * 8 + 8 * 2
    assert net.key(small) != net.key(Subnet(width_mult=0.5, resolution=8, num_frames=6))


def test_signals_and_vectors_are_the_same_at_every_resolution():
    signals = nn.Sequential(
        nn.Conv1d(2, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 2)
    )
    vectors = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 2))
    for model, example, macs in (
        (signals, torch.zeros(4, 2, 64), 62 * 3 * 2 * 8 + 8 * 2),
        (vectors, torch.zeros(4, 20), 20 * 8 + 8 * 2),
    ):
        net = Supernet(model, SPACE, example_input=example)
        assert net.example_input(HALF).shape == (1, *example.shape[1:])
        assert CostModel(net).macs(HALF) == macs
        assert net.subnet(HALF)(example).shape == (4, 2)


def test_a_model_may_make_its_own_example_also_in_copies():
    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small, self.large = nn.Conv2d(3, 16, 3), nn.Conv2d(3, 16, 3)
            self.last = nn.Linear(32, 2)

        def example_input(self, subnet, largest):
            sides = subnet.resolution, largest.resolution
            return tuple(torch.zeros(1, 3, side, side) for side in sides)

        def forward(self, pair):
            maps = self.small(pair[0]), self.large(pair[1])
            return self.last(torch.cat([m.mean((2, 3)) for m in maps], 1))

    net = copy.deepcopy(Supernet(TwoInputs(), SPACE))
    assert [len(x[0, 0]) for x in net.example_input(HALF)] == [8, 16]
    assert CostModel(net).macs(HALF) == (6 * 6 + 14 * 14) * 27 * 8 + 16 * 2


def test_an_input_without_a_tensor_is_refused():
    with pytest.raises(TypeError, match="must hold a tensor, got list"):
        first_tensor([])
