"""Counts against published numbers and against PyTorch's own counter; latency's bookkeeping."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mutualnet import cost
from mutualnet.cost import CostModel, measure_latency
from mutualnet.models.cifar import mobilenet_v1_cifar, wrn28_10
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.supernet import Supernet

MILLION = 1e6
RESOLUTIONS = (224, 192, 160, 128)

MOBILENET_V1 = {  # width: millions of MACs at each resolution (floor), millions of parameters
    1.00: ((568, 418, 290, 186), 4.232),
    0.95: ((517, 380, 264, 169), 3.888),
    0.90: ((466, 342, 238, 152), 3.540),
    0.85: ((421, 309, 215, 138), 3.185),
    0.80: ((366, 269, 187, 120), 2.869),
    0.75: ((325, 239, 166, 106), 2.586),
    0.70: ((287, 211, 146, 94), 2.317),
    0.65: ((249, 183, 127, 81), 2.046),
    0.60: ((217, 159, 111, 71), 1.778),
    0.55: ((177, 130, 90, 58), 1.540),
    0.50: ((149, 109, 76, 49), 1.332),
    0.45: ((124, 91, 63, 40), 1.138),
    0.40: ((100, 73, 51, 32), 0.945),
    0.35: ((80, 59, 41, 26), 0.764),
    0.30: ((64, 47, 32, 21), 0.604),
    0.25: ((41, 30, 21, 13), 0.470),
}
MOBILENET_V2 = {
    1.00: ((300, 221, 154, 99), 3.505),
    0.95: ((284, 209, 145, 93), 3.317),
    0.90: ((269, 197, 137, 88), 3.142),
    0.85: ((254, 187, 130, 83), 2.970),
    0.80: ((222, 163, 114, 73), 2.792),
    0.75: ((209, 153, 107, 69), 2.636),
    0.70: ((173, 127, 89, 57), 2.481),
    0.65: ((161, 119, 83, 53), 2.347),
    0.60: ((150, 111, 77, 50), 2.217),
    0.55: ((106, 78, 55, 35), 2.083),
    0.50: ((97, 71, 50, 32), 1.969),
    0.45: ((88, 65, 45, 29), 1.865),
    0.40: ((80, 59, 41, 27), 1.771),
    0.35: ((59, 43, 30, 20), 1.677),
}
RESNET_50 = {
    1.00: ((4089, 3005, 2087, 1337), 25.56),
    0.95: ((3690, 2712, 1884, 1206), 23.19),
    0.90: ((3338, 2453, 1704, 1091), 20.85),
    0.75: ((2323,), 14.77),
    0.50: ((1052,), 6.92),
    0.25: ((278,), 1.99),
}
WRN_28_10 = {
    1.00: ((5243, 4014, 2949, 2048), 36.54),
    0.95: ((4733, 3624, 2663, 1849), 32.98),
    0.90: ((4250, 3254, 2390, 1660), 29.60),
}
SCALED_MOBILENET_V1 = {  # width: billions of MACs at 224, 256, 288, 320
    1.0: (0.569, 0.743, 0.939, 1.160),
    1.2: (0.815, 1.065, 1.347, 1.663),
    1.4: (1.102, 1.439, 1.821, 2.248),
    1.6: (1.424, 1.859, 2.353, 2.904),
    1.8: (1.796, 2.345, 2.968, 3.663),
    2.0: (2.216, 2.894, 3.663, 4.521),
}


def _check(costs, table, resolutions, digits):
    for width, (macs, params) in table.items():
        subnet = Subnet(width_mult=width, resolution=resolutions[0])
        assert round(costs.params(subnet) / MILLION, digits) == pytest.approx(params), width
        for resolution, millions in zip(resolutions, macs, strict=False):
            subnet = Subnet(width_mult=width, resolution=resolution)
            assert abs(costs.macs(subnet) / MILLION - millions) <= 1, subnet


@pytest.mark.parametrize(
    ("name", "lowest", "table", "digits"),
    [
        ("mobilenetv1_100", 0.05, MOBILENET_V1, 3),
        ("mobilenetv2_100", 0.35, MOBILENET_V2, 3),
        ("resnet50", 0.25, RESNET_50, 2),
    ],
)
def test_imagenet_networks_have_the_papers_cost(name, lowest, table, digits):
    space = ElasticSpace(width_range=(lowest, 1), resolutions=RESOLUTIONS)
    _check(CostModel(Supernet(timm.create_model(name), space)), table, RESOLUTIONS, digits)


def test_mobilenet_v1_below_a_quarter_has_the_published_cost():
    space = ElasticSpace(width_range=(0.05, 1))
    costs = CostModel(Supernet(timm.create_model("mobilenetv1_100"), space))
    for width, millions in {0.2: 28.68, 0.15: 21.47, 0.1: 11.78, 0.05: 7.59}.items():
        assert costs.macs(Subnet(width_mult=width)) / MILLION == pytest.approx(millions, abs=0.01)


def test_wide_resnet_has_the_papers_cost():
    resolutions = (32, 28, 24, 20)
    space = ElasticSpace(width_range=(0.9, 1), resolutions=resolutions)
    _check(CostModel(Supernet(wrn28_10(100), space)), WRN_28_10, resolutions, 2)


def test_widths_above_one_scale_the_base_network():
    model = mobilenet_v1_cifar(1000, width=2.0)
    model.conv_stem.stride = model.blocks[1][0].conv_dw.stride = (2, 2)  # ImageNet's five strides
    space = ElasticSpace(width_range=(1, 2), width_step=0.2, resolutions=(320, 288, 256, 224))
    costs = CostModel(Supernet(model, space))
    for width, billions in SCALED_MOBILENET_V1.items():
        for resolution, value in zip((224, 256, 288, 320), billions, strict=True):
            macs = costs.macs(Subnet(width_mult=width, resolution=resolution))
            assert abs(macs / MILLION - 1000 * value) <= 1, (width, resolution)


@pytest.mark.parametrize("name", ["efficientnet_b0", "densenet121", "mobilenetv3_large_100"])
def test_counts_equal_pytorchs_counter_on_the_extracted_network(name):
    space = ElasticSpace(resolutions=(96, 64))
    supernet = Supernet(timm.create_model(name), space)
    costs = CostModel(supernet)
    for subnet in (space.largest, Subnet(width_mult=0.6, resolution=64), space.smallest):
        narrow = supernet.extract(subnet, uncalibrated=True).eval().to("meta")
        images = torch.zeros(1, 3, subnet.resolution, subnet.resolution, device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            narrow(images)
        assert costs.macs(subnet) == counter.get_total_flops() // 2
        assert costs.params(subnet) == sum(p.numel() for p in narrow.parameters())


def test_transposed_and_grouped_convolutions_are_counted_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),  # 27 * 16 * 64
        nn.Conv2d(16, 16, 3, padding=1, groups=4, bias=False),  # 4 * 9 * 16 * 64
        nn.ConvTranspose2d(16, 8, 2, stride=2, bias=False),  # 16 * 8 * 4 * 64
        nn.Conv2d(8, 2, 1, bias=False),  # 16 * 256
    )
    costs = CostModel(Supernet(model, ElasticSpace(resolutions=(8,))))
    by_hand = 27 * 16 * 64 + 36 * 16 * 64 + 16 * 8 * 4 * 64 + 16 * 256
    assert costs.macs(Subnet(resolution=8)) == by_hand


def test_latency_says_how_it_was_measured_and_leaves_the_module_alone():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    module[1].eval()
    latency = measure_latency(module, (2, 3, 8, 8), warmup=1, runs=5)
    assert 0 < latency.p50_ms <= latency.p90_ms <= latency.p99_ms
    assert (latency.runs, latency.batch_size, latency.dtype) == (5, 2, "float32")
    assert latency.threads == torch.get_num_threads()
    assert dict(latency.versions)["torch"] == torch.__version__
    assert [m.training for m in module] == [True, False, True]
    assert module[1].num_batches_tracked == 0


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_every_kind_of_accelerator_is_waited_for(monkeypatch, kind):
    waited = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    cost.wait_for(torch.device(kind, 0))
    cost.wait_for(torch.device("cpu"))
    assert waited == [torch.device(kind, 0)]
    monkeypatch.setattr(cost, "wait_for", waited.append)
    measure_latency(nn.Linear(2, 2), (1, 2), warmup=1, runs=3)
    assert waited[1:] == [torch.device("cpu")] * 4


def test_a_module_without_weights_is_timed_as_its_input_comes():
    latency = measure_latency(nn.AvgPool2d(2), torch.zeros(3, 4, 8, 8, dtype=torch.float64), runs=2)
    assert (latency.batch_size, latency.dtype) == (3, "float64")
    norm = nn.BatchNorm2d(4, affine=False, dtype=torch.float64)
    assert measure_latency(norm, (2, 4, 8, 8), runs=2).dtype == "float64"


def test_latency_grows_with_work():
    light = measure_latency(nn.Conv2d(3, 4, 3), (1, 3, 16, 16), runs=5)
    heavy = measure_latency(nn.Conv2d(3, 64, 7), (1, 3, 256, 256), runs=5)
    assert heavy.p50_ms > light.p50_ms


def test_latency_needs_runs():
    with pytest.raises(ValueError, match=r"runs >= 1, got 5 and 0"):
        measure_latency(nn.Conv2d(3, 4, 3), (1, 3, 8, 8), runs=0)
