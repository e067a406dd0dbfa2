"""Which parameters decay, and which learn at a lower rate."""

from __future__ import annotations

import torch
from torch import nn

from mutualnet.config.optimizer import OptimizerConfig
from mutualnet.models import X3D
from mutualnet.models.cifar import mobilenet_v1_cifar, wrn16_1
from mutualnet.recipes import load_recipe
from mutualnet.training.optimizer import make_optimizer, parameter_groups, set_learning_rate


def test_weight_decay_spares_norms_biases_and_depthwise():
    model = mobilenet_v1_cifar(10)
    groups = parameter_groups(model, OptimizerConfig(lr=1, epochs=1, weight_decay=1e-4))
    by_decay = {group["weight_decay"]: {id(p) for p in group["params"]} for group in groups}
    assert set(by_decay) == {1e-4, 0.0}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_plain = (
                isinstance(module, nn.Conv2d | nn.Linear)
                and name == "weight"
                and not (isinstance(module, nn.Conv2d) and module.groups > 1)
            )
            assert (id(parameter) in by_decay[1e-4]) == is_plain
    everything = OptimizerConfig(lr=1, epochs=1, decay_all=True)
    (group,) = parameter_groups(wrn16_1(10), everything)
    assert len(group["params"]) == len(list(wrn16_1(10).parameters()))


def test_depthwise_convolutions_over_frames_decay_as_those_of_x3d():
    model = X3D(num_classes=2, depths=(1, 1), channels=(8, 16))
    groups = parameter_groups(model, load_recipe("kinetics400_x3d_m").optimizer)
    by_decay = {group["weight_decay"]: {id(p) for p in group["params"]} for group in groups}
    assert set(by_decay) == {5e-5, 0.0}
    depthwise = [m for m in model.modules() if isinstance(m, nn.Conv3d) and m.groups > 1]
    assert len(depthwise) == 3  # of the stem and of both blocks
    assert all(id(layer.weight) in by_decay[5e-5] for layer in depthwise)


def test_layers_with_weights_from_elsewhere_learn_at_their_share_of_the_rate():
    model = wrn16_1(10)
    old = [p for name, p in model.named_parameters() if not name.startswith("head")]
    config = OptimizerConfig(lr=0.1, epochs=1, momentum=0.0, nesterov=False, weight_decay=0.0)
    groups = parameter_groups(model, config, initialized=old, init_lr_mult=0.25)
    optimizer = make_optimizer(groups, config)
    set_learning_rate(optimizer.param_groups, 0.02)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        rate = 0.02 if name.startswith("head") else 0.005
        torch.testing.assert_close(parameter.detach(), before[name] - rate)


def test_a_share_of_zero_keeps_layers_as_they_are():
    model = wrn16_1(10)
    old = [model.stem.weight]
    config = OptimizerConfig(lr=0.1, epochs=1, weight_decay=0.5)
    optimizer = make_optimizer(
        parameter_groups(model, config, initialized=old, init_lr_mult=0.0), config
    )
    set_learning_rate(optimizer.param_groups, 0.1)
    before = model.stem.weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.equal(model.stem.weight, before)
