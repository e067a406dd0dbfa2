"""BN calibration against statistics over all values, written plainly."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from timm.layers import SyncBatchNormAct
from torch import nn

from mutualnet.calibration import StatisticsPool, calibrate
from mutualnet.distributed import synchronise_norms
from mutualnet.models.cifar import mobilenet_v1_cifar, wrn16_1
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.bn_bank import MissingStatisticsError, tracked_norms
from mutualnet.supernet.supernet import Supernet
from mutualnet.tasks.classification import Classification

TASK = Classification()
SPACE = ElasticSpace(resolutions=(16, 8))


@pytest.fixture
def supernet():
    return Supernet(wrn16_1(num_classes=5), SPACE).eval()


def _batches(count: int, size: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(3 * torch.randn(size, 3, 16, 16) + 1, torch.zeros(size).long()) for _ in range(count)]


def _broken() -> tuple[torch.Tensor, torch.Tensor]:
    ((images, labels),) = _batches(1)
    images[1, 0, 0, 0] = float("nan")
    return images, labels


def _slow_statistics(
    supernet: Supernet, subnet: Subnet, batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every value that enters each BN, each batch normalised by itself; then mean and variance."""
    module = supernet.extract(subnet, uncalibrated=True).train()
    seen: dict[str, list[torch.Tensor]] = {name: [] for name, _ in tracked_norms(module)}
    for name, norm in tracked_norms(module):
        norm.register_forward_pre_hook(
            lambda _, args, name=name: seen[name].append(args[0].transpose(0, 1).flatten(1))
        )
    with torch.no_grad():
        for batch in batches:
            module(TASK.scale(batch, subnet)[0])
    values = [torch.cat(found, dim=1).double() for found in seen.values()]
    return torch.cat([v.mean(1) for v in values]), torch.cat([v.var(1) for v in values])


@pytest.mark.parametrize("subnet", SPACE.grid()[::7], ids=str)
def test_statistics_are_those_of_all_values_together(supernet, subnet):
    batches = _batches(3)
    calibrate(supernet, batches, [subnet], task=TASK, data_id="d", num_samples=12)
    statistics = supernet.bank[supernet.key(subnet)]
    mean, var = _slow_statistics(supernet, subnet, batches)
    torch.testing.assert_close(statistics.mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(statistics.var.double(), var, rtol=1e-4, atol=1e-6)


def test_order_of_batches_and_company_of_other_subnetworks_do_not_matter(supernet):
    batches, grid = _batches(4), SPACE.grid()[::5]
    calibrate(supernet, batches, grid, task=TASK, data_id="d", num_samples=16)
    together = dict(supernet.bank)
    for subnet in grid:
        calibrate(supernet, batches[::-1], [subnet], task=TASK, data_id="d", num_samples=16)
        key = supernet.key(subnet)
        assert supernet.bank[key] is not together[key]
        torch.testing.assert_close(supernet.bank[key].mean, together[key].mean, rtol=1e-6, atol=0)
        torch.testing.assert_close(supernet.bank[key].var, together[key].var, rtol=1e-6, atol=0)


def test_a_pool_has_the_mean_and_variance_of_all_values_of_all_batches():
    values = torch.randn(7, 5, 20) * torch.arange(1, 6).view(1, 5, 1)
    pool, count = StatisticsPool(5), torch.full((5,), 20.0, dtype=torch.float64)
    for batch in values:
        pool.add(batch.mean(1), batch.var(1), count)
    flat = values.transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(pool.mean().double(), flat.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pool.var().double(), flat.var(1), rtol=1e-5, atol=1e-6)


def test_no_more_batches_are_loaded_than_needed_and_each_once(supernet):
    loaded = []

    def stream():
        for number, batch in enumerate(_batches(10)):
            loaded.append(number)
            yield batch

    calibrate(supernet, stream(), SPACE.grid()[:3], task=TASK, data_id="d", num_samples=12)
    assert loaded == [0, 1, 2]


def test_a_smaller_last_batch_is_left_out_and_the_bank_says_what_was_used(supernet, caplog):
    subnet = SPACE.smallest
    batches = [*_batches(2), *_batches(1, size=3)]
    calibrate(supernet, batches, [subnet], task=TASK, data_id="abc", num_samples=100)
    statistics = supernet.bank[supernet.key(subnet)]
    assert (statistics.num_samples, statistics.batch_size, statistics.data_id) == (8, 4, "abc")
    assert "calibrated on 8 images" in caplog.text


def test_model_and_other_entries_stay_as_they_are(supernet):
    before = {name: value.clone() for name, value in supernet.model.state_dict().items()}
    modes = [module.training for module in supernet.model.modules()]
    calibrate(supernet, _batches(1), SPACE.grid(), task=TASK, data_id="d", num_samples=4)
    assert modes == [module.training for module in supernet.model.modules()]
    for name, value in supernet.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in supernet.parameters())


def test_calibrated_subnetworks_run_until_the_weights_change(supernet):
    subnet = SPACE.smallest
    images = torch.randn(2, 3, 8, 8)
    module = supernet.subnet(subnet)
    with pytest.raises(MissingStatisticsError, match="no BN statistics"):
        module(images)
    calibrate(supernet, _batches(1), [subnet], task=TASK, data_id="d", num_samples=4)
    torch.testing.assert_close(
        module(images), supernet.extract(subnet)(images), rtol=1e-5, atol=1e-5
    )
    with torch.no_grad():
        supernet.model.stem.weight.mul_(1.1)
    with pytest.raises(MissingStatisticsError, match="stale BN statistics"):
        module(images)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-5), (torch.bfloat16, 0.1)])
def test_networks_of_other_number_formats_are_calibrated(supernet, dtype, rtol):
    batches, subnets = _batches(2), [SPACE.largest, SPACE.smallest]
    other = copy.deepcopy(supernet).to(dtype)
    calibrate(supernet, batches, subnets, task=TASK, data_id="d", num_samples=8)
    converted = [(images.to(dtype), labels) for images, labels in batches]
    calibrate(other, converted, subnets, task=TASK, data_id="d", num_samples=8)
    for subnet in subnets:
        expected, found = (net.bank[net.key(subnet)] for net in (supernet, other))
        torch.testing.assert_close(found.mean, expected.mean, rtol=rtol, atol=rtol)
        torch.testing.assert_close(found.var, expected.var, rtol=rtol, atol=rtol)
        images = TASK.scale(converted[0], subnet)[0]
        assert other.subnet(subnet).eval()(images).dtype == dtype


@pytest.fixture
def group():
    """Of this process alone; in one, synchronised BN in train mode refuses to run on a CPU."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("make", [wrn16_1, mobilenet_v1_cifar])
def test_synchronised_bn_is_calibrated_without_waiting_for_others(make, group):
    plain = Supernet(make(num_classes=5), ElasticSpace(resolutions=(16,)))
    synced = copy.deepcopy(plain)
    synced.model = synchronise_norms(synced.model)
    batches, subnets = _batches(2), [plain.space.largest, plain.space.smallest]
    for supernet in (plain, synced):
        calibrate(supernet, batches, subnets, task=TASK, data_id="d", num_samples=8)
    for subnet in subnets:
        expected, found = (net.bank[net.key(subnet)] for net in (plain, synced))
        assert torch.equal(found.mean, expected.mean)
        assert torch.equal(found.var, expected.var)
    kinds = {type(m) for m in synced.model.modules() if isinstance(m, nn.SyncBatchNorm)}
    assert kinds in ({nn.SyncBatchNorm}, {SyncBatchNormAct}, {nn.SyncBatchNorm, SyncBatchNormAct})


class _Named(nn.Sequential):
    """Calls its layers by the names of their arguments."""

    def forward(self, x):
        for layer in self:
            x = layer(input=x)
        return x


def test_norms_may_be_called_by_the_name_of_their_argument():
    layers = (nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 3))
    torch.manual_seed(1)
    images = _batches(1)
    found = []
    for model in (_Named(*layers), nn.Sequential(*layers)):
        supernet = Supernet(model, SPACE).eval()
        calibrate(supernet, images, [SPACE.smallest], task=TASK, data_id="d", num_samples=4)
        (statistics,) = supernet.bank.values()
        found.append(statistics)
    assert torch.equal(found[0].var, found[1].var)


def test_networks_without_bn_need_no_calibration():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3))
    supernet = Supernet(model, SPACE).eval()
    calibrate(supernet, _batches(1), SPACE.grid(), task=TASK, data_id="d", num_samples=4)
    assert len(supernet.bank) == 0
    assert supernet.subnet(SPACE.smallest)(torch.randn(1, 3, 8, 8)).shape[1] == 4


@pytest.mark.parametrize(
    ("batches", "num_samples", "message"),
    [
        ([], 4, "at least one batch, got none"),
        (_batches(1, size=1), 4, "at least 2 images, got 1"),
        (_batches(1), 1, "num_samples must be >= 2, got 1"),
        ([*_batches(1), _broken()], 8, "images of finite numbers, got others in batch 1"),
    ],
)
def test_data_that_give_no_statistics_are_refused(supernet, batches, num_samples, message):
    with pytest.raises(ValueError, match=message):
        calibrate(supernet, batches, SPACE.grid(), task=TASK, data_id="d", num_samples=num_samples)
    assert not supernet.bank
