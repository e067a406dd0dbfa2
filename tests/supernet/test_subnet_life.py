"""Sub-networks are moved, copied, loaded, shared by threads and freed."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import weight_norm

from mutualnet.calibration import calibrate
from mutualnet.cost import CostModel
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.bn_bank import MissingStatisticsError
from mutualnet.supernet.narrow import narrow_module, take
from mutualnet.supernet.shared_gradients import ignore_layout_warning
from mutualnet.supernet.supernet import Supernet
from mutualnet.supernet.weight_sharing import tie_of
from mutualnet.tasks.classification import Classification
from tests.zoo import BOTH, at, gradients, images, one_pass, small


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
def test_in_inference_mode_subnetworks_are_made_counted_and_moved_for_all_uses(make):
    supernet = make()
    x, half = images(supernet.space), at(supernet.space, 0.5)
    macs = CostModel(supernet).macs(half)
    with torch.inference_mode():
        assert CostModel(supernet).macs(half) == macs
        assert Supernet(supernet.model, supernet.space).plan.full_counts == (
            supernet.plan.full_counts
        )
        narrow = supernet.subnet(half).train()
        plain = supernet.extract(half, uncalibrated=True).train()
    supernet.double()
    with torch.inference_mode():
        narrow(x.double())
    with ignore_layout_warning():
        narrow(x.double()).sum().backward()
        plain(x).sum().backward()
    assert all(p.grad is not None for p in (*supernet.parameters(), *plain.parameters()))


def test_a_model_of_inference_mode_is_refused():
    with torch.inference_mode():
        model = nn.Conv2d(3, 16, 1)
    with pytest.raises(ValueError, match=r"made outside of torch.inference_mode\(\), got"):
        Supernet(model)


def test_weights_that_loading_has_parted_are_still_narrowed():
    model = nn.Sequential(nn.Conv2d(3, 32, 1), *(nn.Conv2d(32, 32, 1) for _ in range(2)))
    model.append(nn.Conv2d(32, 4, 1))
    model[2].weight = model[1].weight
    supernet = Supernet(model, ElasticSpace(resolutions=(8,)))
    state = {name: value.clone() for name, value in supernet.state_dict().items()}
    supernet.load_state_dict(state, assign=True)
    assert model[2].weight is not model[1].weight
    half = Subnet(width_mult=0.5, resolution=8)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(supernet.subnet(half)(x), supernet.extract(half)(x))
    assert supernet.subnet(half)[2].weight.shape == (16, 16, 1, 1)


class Keeping(nn.Module):
    """Keeps its features, and a weight that old weight norm computes before each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = weight_norm(nn.Conv2d(3, 16, 3)), nn.Conv2d(16, 4, 1)
        self.features = []

    def forward(self, x):
        self.features = [self.stem(x)]
        return self.head(self.features[0].relu()).mean((2, 3))


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_what_a_pass_with_gradients_left_behind_is_copied():
    torch.manual_seed(0)
    model, x = Keeping(), torch.randn(2, 3, 8, 8)
    expected = model(x)
    supernet = Supernet(model, ElasticSpace(resolutions=(8,)))
    assert [group.layers for group in supernet.plan.groups] == [("stem",)]
    torch.testing.assert_close(supernet.model(x), expected, rtol=0, atol=0)
    half = Subnet(width_mult=0.5, resolution=8)
    narrow, plain = supernet.subnet(half), supernet.extract(half)
    torch.testing.assert_close(narrow(x), plain(x), rtol=0, atol=0)
    with ignore_layout_warning():
        narrow(x).sum().backward()
    assert model.stem.weight_v.grad[:8].abs().sum() > 0
    assert model.features[0].grad_fn is not None


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
        for name, gradient in one_pass(supernet, x, width).items():
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
    for name, gradient in gradients(supernet).items():
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


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_looked_for_while_a_narrow_network_is_made(enabled):
    supernet = small()
    counts, during = supernet.counts(at(supernet.space, 0.5)), []

    def parameter(_, full, dims):
        during.append(gc.isenabled())
        return nn.Parameter(take(full.detach(), dims))

    (gc.enable if enabled else gc.disable)()
    try:
        narrow_module(
            supernet.model, supernet.plan, counts, parameter, lambda _, t, dims: take(t, dims)
        )
        assert gc.isenabled() is enabled
        with pytest.raises(ZeroDivisionError):
            narrow_module(supernet.model, supernet.plan, counts, lambda *_: 1 / 0, take)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
    assert during
    assert not any(during)
