"""Weights start as in the papers' code: measured spreads, not only names of settings."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mutualnet.config.model import ModelConfig
from mutualnet.models import create_model
from mutualnet.recipes import RECIPES, load_recipe
from mutualnet.training.setup import set_up_training
from mutualnet.training.weight_init import WEIGHT_INITS, init_weights
from tests.small_runs import DCM, digits, pair


def _made(spec, name=None, num_classes=100, **kwargs):
    torch.manual_seed(0)
    model = create_model(spec, num_classes=num_classes, **kwargs)
    if name is not None:
        init_weights(model, name)
    return model


def _layers(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def _assert_spread(weight, expected):
    """Five standard errors of a standard deviation of this many numbers, and of their mean."""
    tolerance = 5 / math.sqrt(2 * weight.numel())
    assert weight.std(correction=0).item() == pytest.approx(expected, rel=tolerance)
    assert abs(weight.mean().item()) < 5 * expected / math.sqrt(weight.numel())


def test_dcm_draws_by_fan_in():
    model = _made("wrn28_4", "dcm")
    # The figures of the authors' WRN-28-4.
    assert model.stem.weight.std().item() == pytest.approx(0.27, abs=0.03)
    assert model.stage2[0].conv1.weight.std().item() == pytest.approx(0.059, abs=0.001)
    assert model.head.weight.std().item() == pytest.approx(0.089, abs=0.002)
    for layer in _layers(model, nn.Conv2d):
        _assert_spread(layer.weight, math.sqrt(2 / layer.weight[0].numel()))
    norms = torch.cat([norm.weight for norm in _layers(model, _BatchNorm)])
    assert 0 <= norms.min() < 0.01 < 0.99 < norms.max() < 1
    assert norms.mean().item() == pytest.approx(0.5, abs=0.03)
    assert norms.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.02)
    assert not any(norm.bias.any() for norm in _layers(model, _BatchNorm))
    assert not model.head.bias.any()


@pytest.mark.parametrize(
    ("spec", "kwargs"),
    [
        ("timm:mobilenetv1_100", {}),
        ("timm:mobilenetv2_100", {}),
        ("mobilenet_v1_scaled", {"depth_mult": 1.0, "width_mult": 1.0}),
        ("timm:resnet50", {}),
    ],
)
def test_mutualnet_draws_by_fan_out_depthwise_too(spec, kwargs):
    own = _made(spec, num_classes=10, **kwargs)
    model = _made(spec, "mutualnet", num_classes=10, **kwargs)
    for layer in _layers(model, nn.Conv2d):
        side = layer.kernel_size[0]
        _assert_spread(layer.weight, math.sqrt(2 / (side * side * layer.out_channels)))
    for norm in _layers(model, _BatchNorm):
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()
    (classifier,) = _layers(model, nn.Linear)
    _assert_spread(classifier.weight, 0.01)
    assert not classifier.bias.any()
    if "mobilenet" in spec:  # what timm draws is larger by the square root of the channels
        wide = max(_layers(own, nn.Conv2d), key=lambda layer: layer.groups)
        narrow = max(_layers(model, nn.Conv2d), key=lambda layer: layer.groups)
        ratio = (wide.weight.std() / narrow.weight.std()).item()
        assert ratio == pytest.approx(math.sqrt(wide.out_channels), rel=0.1)
        assert ratio > 30
    else:
        assert not own.layer1[0].bn3.weight.any()


def test_wide_residual_networks_of_mutualnet_draw_by_fan_out():
    model = _made("wrn28_4")
    for layer in _layers(model, nn.Conv2d):
        side = layer.kernel_size[0]
        _assert_spread(layer.weight, math.sqrt(2 / (side * side * layer.out_channels)))
    _assert_spread(model.head.weight, 1 / math.sqrt(3 * 256))
    assert not model.head.bias.any()
    assert all((norm.weight == 1).all() for norm in _layers(model, _BatchNorm))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_of_papers_start_as_the_papers(name):
    expected = "default"
    if name.startswith("cifar") and "_pair" in name:
        expected = "dcm"
    elif name.startswith(("imagenet", "food101", "indoor67")) or name.endswith("_transfer"):
        expected = "default" if name.endswith("_pair") else "mutualnet"
    found = {model.weight_init for model in load_recipe(name).models}
    assert found == {expected}


def test_networks_and_heads_of_a_run_are_drawn_by_its_seed():
    settings = ("model.weight_init=dcm", "peers.0.model.weight_init=mutualnet", DCM)
    first, second = set_up_training(pair(*settings)).networks
    again, _ = set_up_training(pair(*settings)).networks
    other, _ = set_up_training(pair(*settings, "seed=1")).networks
    for part in (first.supernet.model, first.heads):
        norms = torch.cat([norm.weight for norm in _layers(part, _BatchNorm)])
        assert 0.3 < norms.mean().item() < 0.7
    for part in (second.supernet.model, second.heads):
        assert all((norm.weight == 1).all() for norm in _layers(part, _BatchNorm))
        for layer in _layers(part, nn.Linear):
            _assert_spread(layer.weight, 0.01)
    for mine, same, unlike in zip(
        first.modules.parameters(),
        again.modules.parameters(),
        other.modules.parameters(),
        strict=True,
    ):
        assert torch.equal(mine, same)
        assert not mine.any() or not torch.equal(mine, unlike)


def test_weights_that_are_given_win(tmp_path):
    (plain,) = set_up_training(digits()).networks
    state = plain.supernet.model.state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    init = f"model.init={tmp_path / 'weights.safetensors'}"
    as_given = "model.sort_channels=none"  # which would put them in another order
    (network,) = set_up_training(digits("model.weight_init=dcm", init, as_given)).networks
    for name, value in network.supernet.model.state_dict().items():
        assert torch.equal(value, state[name])


def test_other_layers_keep_their_weights_and_are_named(caplog):
    model = nn.Sequential(nn.ConvTranspose2d(3, 4, 1), nn.GroupNorm(2, 4), nn.PReLU())
    with caplog.at_level("INFO"):
        init_weights(model, "mutualnet")
    assert (model[1].weight == 1).all()
    assert "weight_init=mutualnet draws all but 1.weight, 1.bias, 2.weight" in caplog.text
    with pytest.raises(ValueError, match=r"GroupNorm has none\. Set model.weight_init=default"):
        init_weights(nn.GroupNorm(2, 4), "dcm")


def test_only_known_names_are_taken():
    with pytest.raises(ValueError, match="weight_init must be one of mutualnet, dcm, got 'lsuv'"):
        init_weights(nn.Linear(2, 2), "lsuv")
    with pytest.raises(ValueError, match="weight_init must be one of default, mutualnet, dcm, got"):
        ModelConfig(name="wrn16_1", weight_init="lsuv")
    for name in ("default", *WEIGHT_INITS):
        assert ModelConfig(name="wrn16_1", weight_init=name).weight_init == name
