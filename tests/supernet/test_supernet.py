"""What holds for every network of the zoo: conversion, sharing, gradients, extraction."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.func import functional_call

from mutualnet.calibration import calibrate
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.bn_bank import MissingStatisticsError, tracked_norms
from mutualnet.supernet.narrow import take
from mutualnet.supernet.supernet import Supernet
from mutualnet.supernet.weight_sharing import tie_of
from mutualnet.tasks.classification import Classification
from tests.zoo import ZOO, at, build, images, small

NAMES = sorted(ZOO)
HOOKS = sorted(name for name in vars(nn.Identity()) if name.endswith("_hooks"))


@pytest.fixture(scope="module", params=NAMES)
def converted(request):
    """A converted network of the zoo with what it was before, in eval mode."""
    model, space = build(request.param)
    model.eval()
    before = copy.deepcopy(model)
    supernet = Supernet(model, space)
    return request.param, supernet, before


def test_conversion_changes_nothing(converted):
    _, supernet, before = converted
    after = supernet.model
    assert list(after.state_dict()) == list(before.state_dict())
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value), name
    for new, old in zip(after.modules(), before.modules(), strict=True):
        assert type(new) is type(old)
        assert new.training is old.training
        assert set(vars(new)) == set(vars(old))
        for hooks in HOOKS:
            assert len(getattr(new, hooks)) == len(getattr(old, hooks)), hooks
    for new, old in zip(after.parameters(), before.parameters(), strict=True):
        assert new.requires_grad is old.requires_grad
        assert new.grad is None


def test_full_width_gives_the_same_bits_as_before(converted):
    _, supernet, before = converted
    x = images(supernet.space)
    with torch.no_grad():
        expected = before(x)
        assert torch.equal(supernet(x), expected)
        full = supernet.subnet(at(supernet.space, 1.0)).eval()
        assert type(full) is type(before)
        assert torch.equal(full(x), expected)


def test_parameters_are_views_unless_gathered(converted):
    name, supernet, _ = converted
    narrow = supernet.subnet(at(supernet.space, 0.5))
    full = dict(supernet.model.named_parameters())
    gathered = {shared.name for shared in tie_of(narrow).leaves if shared.gathered}
    assert bool(gathered) == (name.startswith("densenet"))
    for parameter_name, parameter in narrow.named_parameters():
        same = parameter.untyped_storage().data_ptr() == (
            full[parameter_name].untyped_storage().data_ptr()
        )
        assert same == (parameter_name not in gathered), parameter_name
    fewer = sum(p.numel() for p in narrow.parameters())
    assert fewer < 0.6 * sum(p.numel() for p in full.values())


def test_switched_equals_extracted_and_the_extracted_is_plain(converted):
    _, supernet, before = converted
    subnet = at(supernet.space, 0.5)
    x = images(supernet.space)
    switched = supernet.subnet(subnet).train()
    extracted = supernet.extract(subnet, uncalibrated=True).train()
    torch.manual_seed(1)
    a = switched(x)
    torch.manual_seed(1)
    torch.testing.assert_close(a, extracted(x), rtol=1e-5, atol=1e-5)
    assert type(extracted) is type(before)
    for module, original in zip(extracted.modules(), before.modules(), strict=True):
        assert type(module) is type(original)
        assert set(vars(module)) == set(vars(original))
        for hooks in HOOKS:
            assert not getattr(module, hooks), hooks
        home = type(module).__module__
        assert not home.startswith("mutualnet") or home.startswith("mutualnet.models")
        for name, value in vars(module).items():
            assert not type(value).__module__.startswith("mutualnet"), name
    for parameter in extracted.parameters():
        assert type(parameter) is nn.Parameter
        assert not vars(parameter)
        assert parameter.is_contiguous()
        assert not parameter._backward_hooks


def _select(full: torch.Tensor, dims: dict) -> torch.Tensor:
    """Kept positions by autograd's own index_select, dimension by dimension."""
    for dim, index in dims.items():
        positions = np.arange(index.stop) if isinstance(index, slice) else index
        full = full.index_select(dim, torch.from_numpy(positions))
    return full


def test_gradients_equal_autograd_through_selected_weights(converted):
    _, supernet, _ = converted
    model = supernet.model
    was_training = model.training
    # In float64, where the order of additions does not show.
    net = copy.deepcopy(supernet).double().train()
    x = images(supernet.space, 2).double()
    for parameter in net.parameters():
        parameter.grad = None
    expected = {name: torch.zeros_like(p) for name, p in net.model.named_parameters()}
    for width in (1.0, 0.6, 0.25):  # one after the other, into the same gradients
        subnet = at(net.space, width)
        torch.manual_seed(2)
        module = net.model if width == 1 else net.subnet(subnet)
        module(x).square().sum().backward()
        indices = net.plan.indices(net.counts(subnet))
        full = {n: p.detach().clone().requires_grad_() for n, p in net.model.named_parameters()}
        selected = {name: _select(p, indices.get(name, {})) for name, p in full.items()}
        plain = net.extract(subnet, uncalibrated=True).train()
        torch.manual_seed(2)
        functional_call(plain, selected, (x,)).square().sum().backward()
        for name, parameter in full.items():
            if parameter.grad is not None:
                expected[name] += parameter.grad
    for name, parameter in net.model.named_parameters():
        scale = float(expected[name].abs().max()) + 1e-12
        got = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        assert float((got - expected[name]).abs().max()) <= 1e-9 * scale, name
    assert model.training is was_training


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "efficientnet_b0", "densenet121"])
def test_dropped_channels_are_those_that_the_narrow_network_does_not_read(name):
    """Cut every use of the dropped channels in the full network: it computes the narrow one."""
    model, space = build(name)
    model.eval()
    for _, norm in tracked_norms(model):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    supernet = Supernet(model, space)
    subnet = at(space, 0.5)
    indices = supernet.plan.indices(supernet.counts(subnet))
    masked = copy.deepcopy(model)
    for parameter_name, parameter in masked.named_parameters():
        dims = indices.get(parameter_name, {})
        if 1 in dims:  # the input side of a convolution or linear layer
            keep = torch.zeros(parameter.shape[1])
            keep[dims[1] if isinstance(dims[1], slice) else torch.from_numpy(dims[1])] = 1
            shape = [1, -1] + [1] * (parameter.dim() - 2)
            parameter.data.mul_(keep.view(shape))
    narrow = supernet.extract(subnet, uncalibrated=True)
    x = images(space)
    with torch.no_grad():
        expected = masked(x)
        torch.testing.assert_close(
            narrow(x), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
        )


def test_deepcopy_and_pickle_keep_the_network_apart_from_the_original():
    supernet = small().eval()
    x = images(supernet.space)
    for other in (copy.deepcopy(supernet), pickle.loads(pickle.dumps(supernet))):
        assert torch.equal(other(x), supernet(x))
        narrow = other.subnet(at(other.space, 0.5)).train()
        narrow(x).sum().backward()
        assert supernet.model.stem.weight.grad is None
        assert other.model.stem.weight.grad is not None


def test_conversion_keeps_modes_frozen_parameters_and_gradients():
    model = small().model.train()
    model.stage1.eval()
    model.stem.weight.requires_grad_(False)
    model(torch.randn(2, 3, 16, 16)).sum().backward()
    modes = [module.training for module in model.modules()]
    before = [(p, p.requires_grad, p.grad, p._version) for p in model.parameters()]
    values = copy.deepcopy(model.state_dict())
    gradients = [None if g is None else g.clone() for _, _, g, _ in before]
    Supernet(model, ElasticSpace(resolutions=(16,)))
    assert [module.training for module in model.modules()] == modes
    for (old, requires_grad, grad, version), expected, new in zip(
        before, gradients, model.parameters(), strict=True
    ):
        assert new is old
        assert new.requires_grad is requires_grad
        assert new._version == version
        assert new.grad is grad
        assert grad is None or torch.equal(grad, expected)
    for name, value in model.state_dict().items():
        assert torch.equal(value, values[name]), name


def test_full_width_gives_the_same_bits_in_float64():
    supernet = small().double()
    x = images(supernet.space).double()
    supernet.train()(x)  # statistics that float32 does not hold
    supernet.eval()
    full = supernet.subnet(at(supernet.space, 1.0)).eval()
    assert torch.equal(full(x), supernet(x))


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=["deepcopy", "pickle"],
)
def test_in_a_copy_fresh_statistics_stay_fresh_and_stale_stay_stale(duplicate):
    supernet = small()
    stale, fresh = (at(supernet.space, width) for width in (0.25, 0.5))
    x = images(supernet.space)
    noise = [(images(supernet.space, 4), torch.zeros(4).long())]
    options = {"task": Classification(), "data_id": "d", "num_samples": 4}
    calibrate(supernet, noise, [stale], **options)
    with torch.no_grad():
        supernet.model.head.weight.add_(1)
    calibrate(supernet, noise, [fresh], **options)
    other = duplicate(supernet)
    for net in (supernet, other):
        with pytest.raises(MissingStatisticsError):
            net.subnet(stale).eval()(x)
    expected = supernet.subnet(fresh).eval()(x)
    assert torch.equal(other.subnet(fresh).eval()(x), expected)
    with torch.no_grad():
        supernet.model.head.weight.add_(1)  # the copy counts its own changes
    assert torch.equal(other.subnet(fresh).eval()(x), expected)
    with pytest.raises(MissingStatisticsError, match="stale"):
        supernet.subnet(fresh).eval()(x)


def test_group_widths_change_single_groups():
    supernet = small()
    name = next(group.name for group in supernet.plan.groups if group.size == 64)
    plain = Subnet(width_mult=1.0, resolution=16)
    mixed = Subnet(width_mult=1.0, resolution=16, group_widths=((name, 0.5),))
    changed = [
        group.name
        for group, a, b in zip(
            supernet.plan.groups, supernet.counts(plain), supernet.counts(mixed), strict=True
        )
        if a != b
    ]
    assert changed == [name]
    assert supernet.subnet(mixed).train()(images(supernet.space)).shape == (2, 4)
    with pytest.raises(ValueError, match=r"must name channel groups of the model, .* got 'nope'"):
        supernet.subnet(Subnet(width_mult=1.0, resolution=16, group_widths=(("nope", 0.5),)))


def test_random_widths_snap_to_few_distinct_networks():
    space = ElasticSpace()
    supernet = Supernet(timm.create_model("mobilenetv1_100"), space)
    widths = np.linspace(0.25, 1, 3001)
    assert len({supernet.counts(Subnet(width_mult=float(w))) for w in widths}) == 187


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Supernet("resnet18"), TypeError, "model must be an nn.Module, got str"),
        (lambda: Supernet(small()), TypeError, "must be a plain network, got a Supernet"),
        (
            lambda: Supernet(small().model, example_input=torch.zeros(1, 5, 16, 16)),
            ValueError,
            r"must run on images of shape \(5, 16, 16\)",
        ),
        (lambda: Supernet(nn.Linear(3, 4)), ValueError, "no convolution"),
        (lambda: Supernet(nn.Conv2d(3, 8, 3)), ValueError, "no layer of the model can be made"),
    ],
)
def test_what_cannot_be_converted_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("subnet", "message"),
    [
        (Subnet(width_mult=0.1, resolution=16), r"width_mult must be in \[0.25, 1\]"),
        (Subnet(width_mult=1.5, resolution=16), r"width_mult must be in \[0.25, 1\]"),
        (Subnet(width_mult=0.5, resolution=20), r"resolution must be one of \(16, 8\), got 20"),
        (Subnet(width_mult=0.5, resolution=16, num_frames=8), "num_frames must be None in"),
    ],
)
def test_a_subnetwork_outside_the_space_is_refused(subnet, message):
    supernet = small()
    for method in (supernet.subnet, supernet.extract, supernet.counts, supernet.pooled_subnet):
        with pytest.raises(ValueError, match=message):
            method(subnet)


def test_take_selects_like_numpy():
    values = torch.arange(24.0).view(4, 6)
    index = np.array([0, 2, 3])
    assert torch.equal(take(values, {0: slice(0, 2), 1: index}), values[:2][:, index])
    assert take(values, {0: slice(0, 2)}).data_ptr() == values.data_ptr()


def test_of_equal_subnetworks_the_first_stands_for_all():
    supernet = small()
    grid = supernet.space.grid()
    found = supernet.distinct(grid)
    assert list(found) == list(dict.fromkeys(map(supernet.key, grid)))
    assert len(found) < len(grid)
    for key, subnet in found.items():
        assert subnet == next(other for other in grid if supernet.key(other) == key)
