"""Channels in the order of their importance: the same at full width, better when narrow."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from mutualnet.models.cifar import wrn16_4
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet import Supernet
from mutualnet.supernet.bn_bank import tracked_norms
from mutualnet.supernet.sort_channels import sort_channels
from tests.supernet.hard_models import ELASTIC

NETWORKS = {
    "wrn16_4": (lambda: wrn16_4(10), 32),
    "resnext50": (lambda: timm.create_model("resnext50_32x4d", num_classes=10), 64),
    "densenet121": (lambda: timm.create_model("densenet121", num_classes=10), 64),
    "mobilenetv3": (lambda: timm.create_model("mobilenetv3_small_100", num_classes=10), 64),
    "squeezenet": (lambda: torchvision.models.squeezenet1_1(num_classes=10), 64),
    "eca": (lambda: timm.create_model("ecaresnet26t", num_classes=10), 64),
    "res2net": (lambda: timm.create_model("res2net50_26w_4s", num_classes=10), 64),
    "shuffles": (lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10), 64),
    "lstm": (ELASTIC["an LSTM"][0], 16),
    "gru": (ELASTIC["a GRU with a learned state"][0], 16),
    "vit": (lambda: timm.create_model("test_vit", num_classes=10), 160),
}


def _trained(make) -> nn.Module:
    """A network whose norms do something, as if it had been trained."""
    torch.manual_seed(0)
    model = make().double().eval()
    for _, norm in tracked_norms(model):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 1.5)
        with torch.no_grad():
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.3)
    return model


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_full_width_computes_the_same_and_the_weights_move(name):
    make, side = NETWORKS[name]
    model = _trained(make)
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        expected = model(x)
        net = Supernet(model, ElasticSpace(resolutions=(side,)), sort_channels="l1")
        torch.testing.assert_close(model(x), expected, rtol=1e-7, atol=1e-9)
    moved = [n for n, t in model.state_dict().items() if not torch.equal(t, before[n])]
    assert len(moved) > 0.3 * len(before)  # zeros and ones look alike wherever they are
    assert net.plan.groups


def test_layers_forget_what_they_have_computed_from_their_weights():
    model = _trained(lambda: timm.create_model("tiny_vit_5m_224", num_classes=10))
    for name, parameter in model.named_parameters():
        if name.endswith("attention_biases"):  # gathered in eval mode once, for all that follow
            nn.init.normal_(parameter)
    net = Supernet(model, ElasticSpace(resolutions=(224,))).eval()
    x = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        sort_channels(model, net.plan, "l1")
        assert not model.training
        torch.testing.assert_close(model(x), expected, rtol=1e-7, atol=1e-9)


def test_the_channels_with_the_largest_weights_come_first():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 4, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    norms = model[0].weight.detach().abs().mean((1, 2, 3))
    Supernet(model, ElasticSpace(resolutions=(8,)), sort_channels="l1")
    after = model[0].weight.detach().abs().mean((1, 2, 3))
    torch.testing.assert_close(after, norms.sort(descending=True).values)


def test_taylor_sorts_by_what_the_gradients_say_and_moves_them_along():
    torch.manual_seed(0)
    model = wrn16_4(4).double()
    with pytest.raises(ValueError, match="needs gradients, got none"):
        Supernet(model, ElasticSpace(resolutions=(16,)), sort_channels="taylor")
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    model(x).square().sum().backward()
    net = Supernet(model, ElasticSpace(resolutions=(16,)), sort_channels="taylor")
    held = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, held[name], rtol=1e-6, atol=1e-9)
    group = next(g for g in net.plan.groups if len(g.layers) == 1)
    weight = model.get_parameter(f"{group.name}.weight")
    importance = (weight * weight.grad).abs().mean((1, 2, 3)).detach().numpy()
    assert (np.diff(importance) <= 1e-12).all()


class Choice(nn.Module):
    """Which layer runs depends on values, and zeros choose the second."""

    def __init__(self) -> None:
        super().__init__()
        self.bright, self.dark = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 16, 3, padding=1)
        self.scale, self.head = nn.Parameter(torch.rand(16, 1, 1)), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        x = self.bright(x) if x.mean() > 0.5 else self.dark(x)
        return self.head(x * self.scale if self.training else x).mean((2, 3))


def test_what_train_mode_alone_uses_is_sorted_and_what_did_not_run_is_named(caplog):
    torch.manual_seed(0)
    model, x = Choice(), torch.rand(2, 3, 8, 8) - 0.5
    expected = model(x)
    Supernet(model, ElasticSpace(resolutions=(8,)), sort_channels="l1")
    torch.testing.assert_close(model(x), expected)
    (warning,) = caplog.messages
    assert warning.startswith("sort_channels: bright did not run when the channels were followed.")


def test_an_unknown_criterion_is_refused():
    with pytest.raises(ValueError, match="must be one of l1, l2, taylor, got 'best'"):
        Supernet(wrn16_4(4), ElasticSpace(resolutions=(16,)), sort_channels="best")


def test_a_sorted_network_is_a_better_start_when_narrow():
    """Trained channels that carry nothing go last, whatever their place was."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    with torch.no_grad():
        model[0].weight[:16] *= 1e-3
        model[0].bias[:16] = 0
    x = torch.randn(4, 3, 8, 8)
    half = Subnet(width_mult=0.5, resolution=8)
    errors = {}
    for criterion in (None, "l1"):
        own = copy.deepcopy(model)
        net = Supernet(own, ElasticSpace(resolutions=(8,)), sort_channels=criterion)
        with torch.no_grad():
            narrow = net.extract(half, uncalibrated=True)
            errors[criterion] = float((narrow(x) - model(x)).abs().max())
    assert errors["l1"] < 0.02 * errors[None]
