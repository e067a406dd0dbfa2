"""The tie between sub-network and supernet: gradients, optimizers, staleness."""

from __future__ import annotations

import copy

import pytest
import torch

from mutualnet.calibration import calibrate
from mutualnet.supernet.bn_bank import MissingStatisticsError
from mutualnet.supernet.supernet import Supernet
from mutualnet.tasks.classification import Classification
from tests.zoo import BOTH, at, gradients, images, one_pass, small, small_dense


def _assert_equal(
    a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], factor: float = 1
) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, factor * b[name], rtol=1e-4, atol=1e-5, msg=name)


@BOTH
@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("place", ["before forward", "between"])
def test_zero_grad_may_come_anywhere_in_a_users_loop(make, set_to_none, place):
    supernet = make().train()
    x = images(supernet.space)
    expected = one_pass(supernet, x)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.0)
    narrow = supernet.subnet(at(supernet.space, 0.5))
    for _ in range(3):
        if place == "before forward":
            optimizer.zero_grad(set_to_none=set_to_none)
        loss = narrow(x).square().sum()
        if place == "between":
            optimizer.zero_grad(set_to_none=set_to_none)
        loss.backward()
        optimizer.step()
        got = {n: g for n, g in gradients(supernet).items() if n in expected}
        _assert_equal(got, expected)


@BOTH
def test_passes_accumulate_over_batches_and_subnetworks(make):
    supernet = make().train()
    x = images(supernet.space)
    expected = one_pass(supernet, x)
    narrow, other = (supernet.subnet(at(supernet.space, w)) for w in (0.5, 0.25))
    narrow(x).square().sum().backward()
    narrow(x).square().sum().backward()
    _assert_equal(gradients(supernet), expected, 2)
    smaller = one_pass(supernet, x, 0.25)
    other(x).square().sum().backward()
    _assert_equal(gradients(supernet), {n: 2 * g + smaller[n] for n, g in expected.items()})


@BOTH
def test_two_forwards_before_one_backward(make):
    supernet = make().train()
    x = images(supernet.space)
    expected = one_pass(supernet, x)
    narrow = supernet.subnet(at(supernet.space, 0.5))
    (narrow(x).square().sum() + narrow(x).square().sum()).backward()
    _assert_equal(gradients(supernet), expected, 2)


@BOTH
def test_two_backwards_through_one_graph_add_twice(make):
    supernet = make().train()
    x = images(supernet.space)
    expected = one_pass(supernet, x)
    loss = supernet.subnet(at(supernet.space, 0.5))(x).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    _assert_equal(gradients(supernet), expected, 2)


@BOTH
def test_autograd_grad_leaves_the_full_gradients_alone(make):
    supernet = make().train()
    narrow = supernet.subnet(at(supernet.space, 0.5))
    grads = torch.autograd.grad(narrow(images(supernet.space)).sum(), list(narrow.parameters()))
    assert all(g.shape == p.shape for g, p in zip(grads, narrow.parameters(), strict=True))
    assert all(p.grad is None for p in supernet.parameters())


@BOTH
@pytest.mark.filterwarnings("ignore:Using backward")
def test_create_graph_is_refused_and_the_network_trains_on(make):
    supernet = make().train()
    x = images(supernet.space)
    expected = one_pass(supernet, x)
    narrow = supernet.subnet(at(supernet.space, 0.5))
    with pytest.raises(RuntimeError, match=r"create_graph=True\) through a sub-network must not"):
        narrow(x).square().sum().backward(create_graph=True)
    supernet.zero_grad()
    narrow(x).square().sum().backward()
    _assert_equal(gradients(supernet), expected)


@BOTH
@pytest.mark.filterwarnings("ignore:Using backward")
def test_a_refused_pass_leaves_what_was_accumulated_before(make):
    supernet = make().train()
    x = images(supernet.space)
    expected = one_pass(supernet, x)
    narrow = supernet.subnet(at(supernet.space, 0.5))
    narrow(x).square().sum().backward()
    with pytest.raises(RuntimeError, match="must not be used"):
        narrow(x).square().sum().backward(create_graph=True)
    narrow(x).square().sum().backward()
    _assert_equal(gradients(supernet), expected, 2)


@BOTH
def test_requires_grad_follows_the_full_parameter(make):
    supernet = make().train()
    x = images(supernet.space)
    narrow = supernet.subnet(at(supernet.space, 0.5))
    name, full = next(iter(supernet.model.named_parameters()))
    full.requires_grad_(False)
    narrow(x).sum().backward()
    assert full.grad is None
    full.requires_grad_(True)
    supernet.zero_grad()
    narrow(x).square().sum().backward()
    _assert_equal({name: full.grad}, {name: one_pass(supernet, x)[name]})


def test_parameters_frozen_at_first_train_later():
    supernet = small_dense().train()
    for parameter in supernet.parameters():
        parameter.requires_grad_(False)
    narrow = supernet.subnet(at(supernet.space, 0.5))
    for parameter in supernet.parameters():
        parameter.requires_grad_(True)
    x = images(supernet.space)
    narrow(x).square().sum().backward()
    _assert_equal(gradients(supernet), one_pass(supernet, x))


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=False),
    "sgd foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=False),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
}


@BOTH
@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_every_subnetwork_sees_an_optimizer_step_and_statistics_go_stale(make, kind):
    supernet = make()
    x, subnet = images(supernet.space), at(supernet.space, 0.5)
    optimizer = OPTIMIZERS[kind](supernet.parameters())
    noise = [(images(supernet.space, 4), torch.zeros(4).long())]
    calibrate(supernet, noise, [subnet], task=Classification(), data_id="d", num_samples=4)
    narrow = supernet.subnet(subnet).eval()
    before = narrow(x)
    supernet.subnet(at(supernet.space, 0.25)).train()(x).square().sum().backward()
    supernet(x).square().sum().backward()
    optimizer.step()
    with pytest.raises(MissingStatisticsError, match="stale BN statistics"):
        narrow(x)
    calibrate(supernet, noise, [subnet], task=Classification(), data_id="d", num_samples=4)
    after = narrow(x)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, supernet.extract(subnet).eval()(x), rtol=1e-5, atol=1e-5)


EDITS = {
    "no_grad": lambda s: _bump(s),
    "load_state_dict": lambda s: s.model.load_state_dict(small().model.state_dict()),
    "assign": lambda s: s.model.load_state_dict(
        copy.deepcopy(small().model.state_dict()), assign=True
    ),
}


def _bump(supernet: Supernet) -> None:
    with torch.no_grad():
        supernet.model.head.weight.add_(1)


@pytest.mark.parametrize("edit", ["no_grad", "load_state_dict", "assign"])
def test_statistics_go_stale_with_any_edit_and_views_follow(edit):
    supernet = small()
    x, subnet = images(supernet.space), at(supernet.space, 0.5)
    noise = [(images(supernet.space, 4), torch.zeros(4).long())]
    narrow = supernet.subnet(subnet).eval()
    calibrate(supernet, noise, [subnet], task=Classification(), data_id="d", num_samples=4)
    narrow(x)
    EDITS[edit](supernet)
    with pytest.raises(MissingStatisticsError, match="stale"):
        narrow(x)
    plain = supernet.extract(subnet, uncalibrated=True).train()
    torch.testing.assert_close(narrow.train()(x), plain(x), rtol=1e-5, atol=1e-5)
    narrow(x).sum().backward()
    assert supernet.model.stem.weight.grad is not None


def test_full_width_never_refuses_and_narrow_training_touches_no_statistics():
    supernet = small()
    full = supernet.subnet(at(supernet.space, 1.0)).eval()
    narrow = supernet.subnet(at(supernet.space, 0.5)).train()
    before = {n: b.clone() for n, b in supernet.model.named_buffers()}
    x = images(supernet.space)
    narrow(x).sum().backward()
    for name, buffer in supernet.model.named_buffers():
        assert torch.equal(buffer, before[name])
    assert len(supernet.bank) == 0
    supernet.train()
    supernet(x)
    supernet.eval()
    assert torch.equal(full(x), supernet(x))
    _bump(supernet)
    torch.testing.assert_close(full(x), supernet(x), rtol=0, atol=0)


def test_an_optimizer_over_a_subnetwork_trains_the_shared_weights():
    supernet, twin = small().train(), small().train()
    subnet, x = at(supernet.space, 0.5), images(supernet.space)
    narrow, plain = supernet.subnet(subnet), twin.extract(subnet, uncalibrated=True).train()
    a = torch.optim.SGD(narrow.parameters(), lr=0.01, momentum=0.9)
    b = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9)
    for _ in range(3):
        for module, optimizer in ((narrow, a), (plain, b)):
            optimizer.zero_grad()
            module(x).square().mean().backward()
            optimizer.step()
    for (name, p), q in zip(narrow.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6, msg=name)
    untouched = small().model.stage3[0].conv1.weight
    assert torch.equal(supernet.model.stage3[0].conv1.weight[32:], untouched[32:])


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
@pytest.mark.parametrize("set_to_none", [True, False])
def test_an_optimizer_over_a_subnetwork_steps_like_slices_by_hand(kind, set_to_none):
    supernet, twin = small().train(), small().train()
    subnet, x = at(supernet.space, 0.5), images(supernet.space)
    narrow, plain = supernet.subnet(subnet), twin.extract(subnet, uncalibrated=True).train()
    expected = {n: p.detach().clone() for n, p in supernet.model.named_parameters()}
    optimizers = [OPTIMIZERS[kind](module.parameters()) for module in (narrow, plain)]
    if "fused" in kind:  # its kernel would write over the other channels
        narrow(x).square().mean().backward()
        with pytest.raises(RuntimeError, match="a fused optimizer must not hold"):
            optimizers[0].step()
        return
    for _ in range(2):
        for module, optimizer in zip((narrow, plain), optimizers, strict=True):
            optimizer.zero_grad(set_to_none=set_to_none)
            module(x).square().mean().backward()
            optimizer.step()
    for name, parameter in plain.named_parameters():
        expected[name][tuple(slice(0, n) for n in parameter.shape)] = parameter.detach()
    for name, parameter in supernet.model.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_an_optimizer_over_gathered_copies_is_refused():
    supernet = small_dense().train()
    narrow = supernet.subnet(at(supernet.space, 0.5))
    optimizer = torch.optim.SGD(narrow.parameters(), lr=0.1)
    narrow(images(supernet.space)).sum().backward()
    with pytest.raises(RuntimeError, match="an optimizer must not hold"):
        optimizer.step()
