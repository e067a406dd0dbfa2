"""The tie between sub-network and supernet: gradients, staleness, moves, copies, threads."""

import copy
import gc
import pickle
import threading
import warnings
import weakref

import pytest
import torch
from torch import nn

from mutualnet.bank import MissingStatisticsError
from mutualnet.calibrate import calibrate
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet import Supernet
from mutualnet.tasks.classification import Classification
from mutualnet.views import tie_of
from tests.zoo import at, images, small, small_dense

BOTH = pytest.mark.parametrize("make", [small, small_dense])


def _gradients(supernet: Supernet) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in supernet.model.named_parameters() if p.grad is not None}


def _assert_equal(
    a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], factor: float = 1
) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, factor * b[name], rtol=1e-4, atol=1e-5, msg=name)


def _one_pass(supernet: Supernet, x: torch.Tensor, width: float = 0.5) -> dict[str, torch.Tensor]:
    """Gradients of one pass, from a copy with nothing accumulated."""
    fresh = copy.deepcopy(supernet)
    fresh.zero_grad()
    fresh.subnet(at(fresh.space, width)).train()(x).square().sum().backward()
    return _gradients(fresh)


@BOTH
@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("place", ["before forward", "between"])
def test_zero_grad_may_come_anywhere_in_a_users_loop(make, set_to_none, place):
    supernet = make().train()
    x = images(supernet.space)
    expected = _one_pass(supernet, x)
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
        got = {n: g for n, g in _gradients(supernet).items() if n in expected}
        _assert_equal(got, expected)


@BOTH
def test_passes_accumulate_over_batches_and_subnetworks(make):
    supernet = make().train()
    x = images(supernet.space)
    expected = _one_pass(supernet, x)
    narrow, other = (supernet.subnet(at(supernet.space, w)) for w in (0.5, 0.25))
    narrow(x).square().sum().backward()
    narrow(x).square().sum().backward()
    _assert_equal(_gradients(supernet), expected, 2)
    smaller = _one_pass(supernet, x, 0.25)
    other(x).square().sum().backward()
    _assert_equal(_gradients(supernet), {n: 2 * g + smaller[n] for n, g in expected.items()})


@BOTH
def test_two_forwards_before_one_backward(make):
    supernet = make().train()
    x = images(supernet.space)
    expected = _one_pass(supernet, x)
    narrow = supernet.subnet(at(supernet.space, 0.5))
    (narrow(x).square().sum() + narrow(x).square().sum()).backward()
    _assert_equal(_gradients(supernet), expected, 2)


@BOTH
def test_two_backwards_through_one_graph_add_twice(make):
    supernet = make().train()
    x = images(supernet.space)
    expected = _one_pass(supernet, x)
    loss = supernet.subnet(at(supernet.space, 0.5))(x).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    _assert_equal(_gradients(supernet), expected, 2)


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
    expected = _one_pass(supernet, x)
    narrow = supernet.subnet(at(supernet.space, 0.5))
    with pytest.raises(RuntimeError, match=r"create_graph=True\) through a sub-network must not"):
        narrow(x).square().sum().backward(create_graph=True)
    supernet.zero_grad()
    narrow(x).square().sum().backward()
    _assert_equal(_gradients(supernet), expected)


@BOTH
@pytest.mark.filterwarnings("ignore:Using backward")
def test_a_refused_pass_leaves_what_was_accumulated_before(make):
    supernet = make().train()
    x = images(supernet.space)
    expected = _one_pass(supernet, x)
    narrow = supernet.subnet(at(supernet.space, 0.5))
    narrow(x).square().sum().backward()
    with pytest.raises(RuntimeError, match="must not be used"):
        narrow(x).square().sum().backward(create_graph=True)
    narrow(x).square().sum().backward()
    _assert_equal(_gradients(supernet), expected, 2)


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
    _assert_equal({name: full.grad}, {name: _one_pass(supernet, x)[name]})


def test_parameters_frozen_at_first_train_later():
    supernet = small_dense().train()
    for parameter in supernet.parameters():
        parameter.requires_grad_(False)
    narrow = supernet.subnet(at(supernet.space, 0.5))
    for parameter in supernet.parameters():
        parameter.requires_grad_(True)
    x = images(supernet.space)
    narrow(x).square().sum().backward()
    _assert_equal(_gradients(supernet), _one_pass(supernet, x))


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


@BOTH
@pytest.mark.parametrize(
    "move",
    [
        lambda s: s.to(torch.float64),
        lambda s: s.model.to(memory_format=torch.channels_last),
        lambda s: s.bfloat16(),
    ],
)
def test_moving_the_supernet_takes_its_subnetworks_along(make, move):
    supernet = make().train()
    narrow = supernet.subnet(at(supernet.space, 0.5))
    x = images(supernet.space)
    narrow(x).sum().backward()
    supernet.zero_grad()
    move(supernet)
    dtype = next(supernet.parameters()).dtype
    narrow(x.to(dtype)).square().sum().backward()
    for shared in tie_of(narrow).leaves:
        assert shared.leaf.dtype == dtype
        if not shared.gathered:
            assert shared.leaf.data_ptr() == shared.full.data_ptr()
    assert all(p.grad is not None and p.grad.dtype == dtype for p in supernet.parameters())


def test_moving_a_subnetwork_cuts_it_loose_with_a_warning():
    supernet = small().train()
    narrow = supernet.subnet(at(supernet.space, 0.5))
    x = images(supernet.space)
    narrow.to(torch.float64)
    with pytest.warns(UserWarning, match="no longer shares weights"):
        narrow(x.double()).sum().backward()
    assert all(p.grad is None and p.dtype == torch.float32 for p in supernet.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        narrow(x.double()).sum().backward()


@BOTH
def test_copies_and_pickles_of_a_subnetwork_are_their_own(make):
    supernet = make().train()
    narrow = supernet.subnet(at(supernet.space, 0.5))
    x = images(supernet.space)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    for other in (copy.deepcopy(narrow), pickle.loads(pickle.dumps(narrow))):
        torch.testing.assert_close(other(x), narrow(x))
        optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
        other(x).sum().backward()
        optimizer.step()
        other.eval()(x)
        assert all(p.grad is None for p in supernet.parameters())
        for name, value in supernet.state_dict().items():
            assert torch.equal(value, before[name]), name


@BOTH
def test_state_dict_is_compact_and_loads_into_the_extracted(make):
    supernet = make()
    subnet = at(supernet.space, 0.5)
    state = supernet.subnet(subnet).state_dict()
    for name, value in state.items():
        if value.is_floating_point():
            assert value.untyped_storage().nbytes() == value.numel() * value.element_size(), name
    supernet.extract(subnet, uncalibrated=True).load_state_dict(state)


@BOTH
def test_loading_into_a_subnetwork_changes_the_shared_weights_or_is_refused(make):
    supernet = make().train()
    x, subnet = images(supernet.space), at(supernet.space, 0.5)
    narrow = supernet.subnet(subnet)
    state = supernet.extract(subnet, uncalibrated=True).state_dict()
    state = {n: v + 1 if v.is_floating_point() else v for n, v in state.items()}
    if any(shared.gathered for shared in tie_of(narrow).leaves):
        with pytest.raises(RuntimeError, match="must not be loaded into"):
            narrow.load_state_dict(state)
        return
    version = supernet.weights_version
    narrow.load_state_dict(state)
    assert supernet.weights_version != version
    narrow(x)
    for name, parameter in supernet.model.named_parameters():
        block = tuple(slice(0, n) for n in state[name].shape)
        assert torch.equal(parameter[block], state[name]), name


def test_missing_and_stale_statistics_are_told_apart():
    supernet = small()
    narrow = supernet.subnet(Subnet(width_mult=0.5, resolution=8)).eval()
    x = torch.randn(2, 3, 8, 8)
    with pytest.raises(MissingStatisticsError, match=r"0\.5x8 must be calibrated .* no BN stat"):
        narrow(x)
    with pytest.raises(MissingStatisticsError, match="or pass uncalibrated=True"):
        supernet.extract(Subnet(width_mult=0.5, resolution=8))
    noise = [(images(supernet.space, 4), torch.zeros(4).long())]
    other = Subnet(width_mult=0.5, resolution=16)
    calibrate(supernet, noise, [other], task=Classification(), data_id="d", num_samples=4)
    with pytest.raises(MissingStatisticsError):
        narrow(x)  # statistics of another resolution do not serve


def test_networks_without_bn_run_at_once():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 2, 1))
    supernet = Supernet(model, ElasticSpace(resolutions=(8,)))
    x, subnet = images(supernet.space), at(supernet.space, 0.5)
    switched = supernet.subnet(subnet).eval()(x)
    assert switched.shape[1] == 2
    torch.testing.assert_close(supernet.extract(subnet)(x), switched)


@BOTH
def test_two_threads_train_two_subnetworks_at_once(make):
    supernet = make().double().train()
    x = images(supernet.space, 4).double()
    widths = (1.0, 0.5)
    expected: dict[str, torch.Tensor] = {}
    repeats = 20
    for width in widths:
        for name, gradient in _one_pass(supernet, x, width).items():
            expected[name] = expected.get(name, 0) + repeats * gradient
    subnets = [supernet.subnet(at(supernet.space, width)) for width in widths]
    barrier = threading.Barrier(len(widths))

    def work(module: nn.Module) -> None:
        for _ in range(repeats):
            barrier.wait()
            module(x).square().sum().backward()

    threads = [threading.Thread(target=work, args=(module,)) for module in subnets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, gradient in _gradients(supernet).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-9, msg=name)


def test_two_threads_run_two_subnetworks_as_alone():
    supernet = small()
    chosen = [at(supernet.space, 0.5), Subnet(width_mult=0.25, resolution=8)]
    noise = [(images(supernet.space, 4), torch.zeros(4).long())]
    calibrate(supernet, noise, chosen, task=Classification(), data_id="d", num_samples=4)
    modules = [supernet.subnet(s).eval() for s in chosen]
    inputs = [torch.randn(2, 3, s.resolution, s.resolution) for s in chosen]
    with torch.no_grad():
        alone = [m(x) for m, x in zip(modules, inputs, strict=True)]
    wrong = []

    def work(i: int) -> None:
        with torch.no_grad():
            for _ in range(50):
                if not torch.equal(modules[i](inputs[i]), alone[i]):
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_pool_reuses_modules_and_follows_the_resolution():
    supernet = small()
    a = supernet.pooled_subnet(Subnet(width_mult=0.5, resolution=16))
    b = supernet.pooled_subnet(Subnet(width_mult=0.5, resolution=8))
    assert a is b
    assert tie_of(b).key.resolution == 8
    assert supernet.subnet(Subnet(width_mult=0.5, resolution=8)) is not b


@BOTH
def test_discarded_subnetworks_are_freed(make):
    supernet = make().train()
    narrow = supernet.subnet(at(supernet.space, 0.5))
    narrow(images(supernet.space)).sum().backward()
    left = [weakref.ref(narrow), *(weakref.ref(p) for p in narrow.parameters())]
    del narrow
    gc.collect()
    assert not any(reference() is not None for reference in left)


def test_only_subnetworks_have_a_tie():
    with pytest.raises(TypeError, match="expected a sub-network that Supernet"):
        tie_of(nn.Linear(1, 1))


def test_a_failed_backward_does_not_lock_other_threads_out():
    supernet = small().train()
    narrow, other = (supernet.subnet(at(supernet.space, w)) for w in (0.5, 0.25))
    x = images(supernet.space)
    supernet.gradient_lock.acquire()  # as a pass would that died between its two hooks
    narrow(x).sum().backward()  # the same thread goes on
    done = threading.Event()

    def work() -> None:
        other(x).sum().backward()
        done.set()

    threading.Thread(target=work, daemon=True).start()
    assert done.wait(timeout=20)
