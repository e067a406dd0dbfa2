"""Layers far from the classifier learn at a lower rate, where timm says which they are."""

from __future__ import annotations

import pytest
import timm
import torch

from mutualnet.space import ElasticSpace
from mutualnet.supernet import Supernet
from mutualnet.training.layer_decay import layer_shares, spared_names
from mutualnet.training.module import TrainingModule
from mutualnet.training.optimizer import parameter_groups
from mutualnet.training.setup import set_up_training
from tests.small_runs import digits

DECAY = 0.5
DEPTHS = {"conv1": 0, "bn1": 0, "layer1.0": 1, "layer2.0": 2, "layer3.0": 3, "layer4.0": 4, "fc": 5}
"""Layers of timm's smallest ResNet by their names, counted by hand."""


def _share(name):
    """By hand: the last layer has the whole rate."""
    (depth,) = [depth for start, depth in DEPTHS.items() if name.startswith(f"{start}.")]
    return DECAY ** (5 - depth)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_rates_of_all_groups_fall_by_layers(name):
    setup = set_up_training(
        digits(
            "model={name: 'timm:test_resnet'}",
            "space={width_range: [0.5, 1.0], resolutions: [32]}",
            f"optimizer={{name: {name}, lr: 0.01, epochs: 1, layer_decay: {DECAY}}}",
        )
    )
    model = setup.networks[0].supernet.model
    module = TrainingModule(setup)
    module.take_step(next(iter(setup.loader())), 0)
    rates = {
        parameter: group["lr"]
        for group in module.torch_optimizers[0].param_groups
        for parameter in group["params"]
    }
    for key, parameter in model.named_parameters():
        assert rates[parameter] == 0.01 * _share(key), key
    assert len(set(rates.values())) == 6
    module.end_epoch()
    assert module.history.rows[-1]["lr"] == 0.01  # of the classifier


def test_weights_from_elsewhere_have_their_share_of_their_layers():
    model = timm.create_model("test_resnet", num_classes=4)
    supernet = Supernet(model, ElasticSpace(resolutions=(32,)))
    named = dict(supernet.named_parameters())
    shares = {named[name]: share for name, share in layer_shares(supernet, DECAY).items()}
    config = digits().optimizer
    old = named["model.conv1.0.weight"]
    groups = parameter_groups(
        supernet, config, initialized=[old], init_lr_mult=0.1, layer_shares=shares
    )
    (rate,) = [g["lr_mult"] for g in groups if any(p is old for p in g["params"])]
    assert rate == 0.1 * DECAY**5


def test_norms_of_a_width_go_with_their_layers():
    model = timm.create_model("test_resnet", num_classes=4)
    space = ElasticSpace(widths=(0.5, 1.0), resolutions=(32,))
    supernet = Supernet(model, space, own_norms=True)
    shares = layer_shares(supernet, DECAY)
    assert set(shares) == {name for name, _ in supernet.named_parameters()}
    own = [name for name in shares if name.startswith("own_norms.")]
    assert len(own) == 2 * sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    for name in own:
        path = name.split(".", 3)[3].replace("/", ".")
        assert shares[name] == _share(path), name


def test_what_timm_spares_does_not_decay():
    model = timm.create_model("test_vit", num_classes=4)
    spared = spared_names(model)
    assert "pos_embed" in spared
    named = dict(model.named_parameters())
    config = digits("optimizer.weight_decay=0.1").optimizer
    groups = parameter_groups(model, config, spared=[named[name] for name in spared])
    decays = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert named["pos_embed"].dim() == 3
    assert decays[id(named["pos_embed"])] == 0
    assert decays[id(named["blocks.0.attn.qkv.weight"])] == 0.1
    assert spared_names(torch.nn.Linear(2, 2)) == []


def test_a_run_spares_what_timm_does():
    vit = "{name: 'timm:test_vit', kwargs: {img_size: 32, patch_size: 8}}"
    space = "{width_range: [1.0, 1.0], resolutions: [32]}"
    settings = [f"model={vit}", f"space={space}", "method.name=independent"]
    for decay_all, expected in (("false", 0.0), ("true", 0.1)):
        recipe = digits(*settings, "optimizer.weight_decay=0.1", f"optimizer.decay_all={decay_all}")
        setup = set_up_training(recipe)
        module = TrainingModule(setup)
        pos_embed = setup.networks[0].supernet.model.pos_embed
        (decay,) = [
            group["weight_decay"]
            for group in module.torch_optimizers[0].param_groups
            if any(parameter is pos_embed for parameter in group["params"])
        ]
        assert decay == expected
