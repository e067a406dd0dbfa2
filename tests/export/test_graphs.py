"""Graphs made from one traced graph give what PyTorch gives."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn

from mutualnet import ElasticSpace, Subnet
from mutualnet.export import artifact_writer as artifact_module
from mutualnet.export.graphs import trace_graph
from mutualnet.runtime import AdaptiveRunner
from tests.small_artifact import (
    SUBNETS,
    Mixed,
    small_artifact,
    small_images,
    small_supernet,
)


class Normless(nn.Module):
    """Without BN, with a weight that is computed and a channel-wise scale."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.scale = nn.Parameter(torch.rand(16, 1, 1) + 0.5)
        self.second = nn.Conv2d(16, 32, 3, 2, 1)
        self.classifier = nn.Linear(32, 10)

    def forward(self, x):
        x = torch.relu(self.first(x)) * self.scale
        weight = self.second.weight - self.second.weight.mean((1, 2, 3), keepdim=True)
        x = nn.functional.conv2d(x, weight, self.second.bias, stride=2, padding=1)
        return self.classifier(torch.relu(x).flatten(2).mean(2))


class Positions(nn.Module):
    """Classifies every position of every image, one after the other, and averages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.last = nn.Conv2d(16, 32, 1)
        self.classifier = nn.Linear(32, 10)

    def forward(self, x):
        x = torch.relu(self.last(self.stem(x)))
        count, channels, height, width = x.shape
        logits = self.classifier(x.permute(0, 2, 3, 1).reshape(-1, channels))
        return logits.reshape(count, height * width, 10).mean(1)


def _densenet():
    return timm.models.densenet.DenseNet(
        growth_rate=8, block_config=(2, 2), num_classes=10, bn_size=2
    )


NETWORKS = {
    "mixed": Mixed,
    "normless": Normless,
    "positions": Positions,
    "densenet": _densenet,
    "mobilenetv2": lambda: timm.create_model("mobilenetv2_035", num_classes=10),
    "efficientnet": lambda: timm.create_model("tinynet_e", num_classes=10),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_graphs_give_what_pytorch_gives(name, tmp_path):
    net = small_supernet(NETWORKS[name]())
    path = small_artifact(tmp_path, net)
    runner = AdaptiveRunner(path)
    images = small_images(3)
    for subnet in SUBNETS:
        module = net.extract(subnet).eval()
        with torch.inference_mode():
            scaled = nn.functional.interpolate(
                images, (subnet.resolution,) * 2, mode="bilinear", align_corners=True
            )
            expected = module(scaled).numpy()
        found = runner.logits(images.numpy(), subnet)
        assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())
    assert all(c.max_difference <= 1e-4 for c in runner.artifact.manifest.configurations)


def test_norms_of_each_width_are_exported(tmp_path):
    """Slimmable networks give every width BN weights of its own."""
    space = ElasticSpace(widths=(0.25, 0.5, 0.75, 1.0), resolutions=(32, 24))
    net = small_supernet(space=space, own_norms=True)
    with torch.no_grad():
        for number, parameter in enumerate(net.own_norms.parameters()):
            parameter.fill_(0.5 + 0.01 * number)
    net.weights_changed()
    from mutualnet import calibrate
    from mutualnet.tasks.classification import Classification

    batch = (small_images(16), torch.zeros(16, dtype=torch.long))
    calibrate(net, [batch], SUBNETS, task=Classification(), data_id="noise", num_samples=16)
    runner, images = AdaptiveRunner(small_artifact(tmp_path, net)), small_images(3)
    subnet = Subnet(width_mult=0.5, resolution=32)
    with torch.inference_mode():
        expected = net.extract(subnet).eval()(images).numpy()
    np.testing.assert_allclose(runner.logits(images.numpy(), subnet), expected, atol=1e-4)


def test_a_network_whose_code_computes_sizes_is_traced_again(tmp_path, monkeypatch):
    """A graph serves other widths only where it gives what PyTorch gives."""

    class Divided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 16, 3, 2, 1)
            self.second = nn.Conv2d(16, 16, 1)
            self.classifier = nn.Linear(16, 10)

        def forward(self, x):
            x = torch.relu(self.first(x))
            x = self.second(x) / x.shape[1]  # a number in the graph
            return self.classifier(x.mean((2, 3)))

    traced = []
    inner = artifact_module.trace_graph

    def count(*arguments, **others):
        traced.append(others)
        return inner(*arguments, **others)

    monkeypatch.setattr(artifact_module, "trace_graph", count)
    net = small_supernet(Divided())
    small_artifact(tmp_path, net)
    assert len(traced) == len({net.counts(subnet) for subnet in SUBNETS}) == 2
    traced.clear()
    small_artifact(tmp_path, small_supernet())
    assert len(traced) == 1


class Looping(nn.Module):
    """One image after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return torch.stack([self.conv(image[None]).mean((0, 2, 3)) for image in x])


def test_a_loop_over_the_batch_is_traced_for_one_image():
    assert trace_graph(Looping().eval(), (3, 16, 16)).batch_size == 1
    assert trace_graph(Mixed().eval(), (3, 16, 16)).batch_size is None
