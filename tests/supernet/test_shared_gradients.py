"""Gradients reach the full parameters although the sub-network is gone before the backward pass."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mutualnet.sandwich import active_network
from mutualnet.space import ElasticSpace
from mutualnet.supernet.shared_gradients import GradientRoute
from mutualnet.supernet.supernet import Supernet
from mutualnet.supernet.weight_sharing import SharedLeaf
from tests.zoo import BOTH, at, gradients, images, one_pass, small, small_dense


@pytest.fixture(autouse=True)
def _small_heap():
    """Collections look at what the test makes alone, which takes a hundredth of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def _held(supernet: Supernet, x: Tensor, collect: Callable[[], object]) -> None:
    """A step whose sub-network lives until the step's end."""
    narrow = supernet.subnet(at(supernet.space, 0.5))
    collect()
    outputs = narrow(x)
    collect()
    loss = outputs.square().sum()
    collect()
    loss.backward()
    collect()


def _discarded(supernet: Supernet, x: Tensor, collect: Callable[[], object]) -> None:
    """A step whose sub-network nothing but the graph of its outputs refers to."""
    outputs = supernet.subnet(at(supernet.space, 0.5))(x)
    collect()
    loss = outputs.square().sum()
    collect()
    loss.backward()
    collect()


STEPS = pytest.mark.parametrize("step", [_held, _discarded])


def _assert_gradients(supernet: Supernet, expected: dict[str, Tensor], factor: float) -> None:
    got = gradients(supernet)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], factor * value, rtol=1e-4, atol=1e-5, msg=name)


@BOTH
@STEPS
def test_a_collection_at_every_point_of_a_step_loses_no_gradient(make, step):
    supernet = make().train()
    x = images(supernet.space)
    expected = one_pass(supernet, x)
    for count in (1, 2):
        step(supernet, x, gc.collect)
        _assert_gradients(supernet, expected, count)


@BOTH
def test_ordinary_collections_lose_no_gradient(make):
    supernet = make().train()
    x = images(supernet.space)
    expected = one_pass(supernet, x)
    for _ in range(10):
        supernet.zero_grad()
        _discarded(supernet, x, lambda: [{} for _ in range(3000)])
        _assert_gradients(supernet, expected, 1)


@BOTH
@STEPS
def test_two_threads_lose_no_pass_to_collections(make, step):
    supernet = make().double().train()
    x = images(supernet.space).double()
    expected = one_pass(supernet, x)
    repeats = 10
    barrier = threading.Barrier(2)

    def work() -> None:
        for _ in range(repeats):
            barrier.wait()
            step(supernet, x, gc.collect)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _assert_gradients(supernet, expected, 2 * repeats)


@BOTH
def test_a_loss_on_an_inner_layer_of_a_discarded_subnetwork_trains_it(make):
    supernet = make().train()
    inner: list[Tensor] = []
    narrow = supernet.subnet(at(supernet.space, 0.5))
    convolution = next(m for m in narrow.modules() if isinstance(m, nn.Conv2d))
    convolution.register_forward_hook(lambda *arguments: inner.append(arguments[2]))
    narrow(images(supernet.space))
    del narrow, convolution
    gc.collect()
    inner[0].square().sum().backward()
    assert len(gradients(supernet)) == 1


def test_the_views_of_a_failed_pass_are_released():
    supernet = small().train()
    subnet = at(supernet.space, 0.5)
    with pytest.raises(ZeroDivisionError), active_network(supernet, subnet) as network:
        network(images(supernet.space)).sum().backward()
        raise ZeroDivisionError
    assert all(p.grad is None for p in supernet.pooled_subnet(subnet).parameters())


def _alive() -> int:
    gc.collect()
    kinds = (nn.Parameter, GradientRoute, SharedLeaf)
    return sum(type(thing) in kinds for thing in gc.get_objects())


@pytest.mark.parametrize("is_trained", [True, False])
def test_ten_thousand_discarded_subnetworks_leave_nothing(is_trained):
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 2, 1))
    supernet = Supernet(model, ElasticSpace(resolutions=(1,)))
    x, subnet = torch.ones(1, 3, 1, 1), at(supernet.space, 0.5)
    supernet(x).sum().backward()
    before = _alive()
    for _ in range(5000):
        outputs = supernet.subnet(subnet)(x)
        if is_trained:
            outputs.sum().backward()
    del outputs
    assert _alive() == before


def test_discarded_subnetworks_with_gathered_copies_leave_nothing():
    supernet = small_dense().train()
    x = images(supernet.space)
    _discarded(supernet, x, gc.collect)
    before = _alive()
    for _ in range(20):
        _discarded(supernet, x, lambda: None)
    assert _alive() == before
