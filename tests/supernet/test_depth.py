"""Sub-networks of less depth: the blocks that are found, and what leaving them out means."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import timm
import torch
import torchvision
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mutualnet.calibration import calibrate
from mutualnet.cost import CostModel
from mutualnet.models.cifar import WideResNet, wrn16_1
from mutualnet.sandwich import sandwich_step
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.bn_bank import (
    BankKey,
    BNBank,
    BNStatistics,
    MissingStatisticsError,
    tracked_norms,
)
from mutualnet.supernet.narrow import take
from mutualnet.supernet.supernet import Supernet
from mutualnet.tasks.classification import Classification
from tests.zoo import elastic_depth

DEPTHS = (1.0, 0.75, 0.5, 0.25)


def _vit(depth: int) -> nn.Module:
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=48, depth=depth, num_heads=3, num_classes=5
    )


def _regnet() -> nn.Module:
    return timm.create_model("regnety_002", num_classes=5)


def _convnext(*depths: int) -> nn.Module:
    return ConvNeXt(depths=depths, dims=(16, 24, 32, 40), num_classes=5)


def _resnet(block: type, *layers: int) -> nn.Module:
    return ResNet(block, layers, num_classes=5, channels=(16, 24, 32, 40))


FAMILIES = {
    "resnet": (lambda: _resnet(BasicBlock, 2, 2, 2, 2), 32, (2, 2, 2, 2)),
    "resnet_bottleneck": (lambda: _resnet(Bottleneck, 3, 4, 1, 2), 32, (3, 4, 2)),
    "torchvision_resnet": (lambda: torchvision.models.resnet18(num_classes=5), 32, (2, 2, 2, 2)),
    "wrn": (lambda: WideResNet(22, 1, 5), 16, (3, 3, 3)),
    "mobilenetv2": (
        lambda: torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.5),
        32,
        (2, 3, 4, 3, 3),
    ),
    "mobilenetv3": (
        lambda: timm.create_model("mobilenetv3_small_050", num_classes=5),
        32,
        (2, 3, 2, 3),
    ),
    "efficientnet": (
        lambda: timm.create_model("efficientnet_b0", num_classes=5),
        32,
        (2, 2, 3, 3, 4),
    ),
    "convnext": (lambda: _convnext(2, 1, 3, 2), 32, (2, 3, 2)),
    "regnet": (_regnet, 32, (4, 7)),
    "vit": (lambda: _vit(4), 32, (4,)),
}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request):
    """A supernet that draws depths, and how many blocks its stages have."""
    make, side, blocks = FAMILIES[request.param]
    torch.manual_seed(0)
    net = Supernet(make(), ElasticSpace(resolutions=(side,), depths=DEPTHS))
    for module in net.modules():
        if "drop_prob" in vars(module):
            module.drop_prob = 0.0
    return net, blocks


def at(net: Supernet, width: float, depth: float | None) -> Subnet:
    """A sub-network at the top resolution."""
    return Subnet(width_mult=width, resolution=net.space.resolutions[0], depth_mult=depth)


def images(net: Supernet, count: int = 3) -> torch.Tensor:
    """A batch of noise."""
    side = net.space.resolutions[0]
    return torch.randn(count, 3, side, side)


def _by_hand(net: Supernet, width: float, depth: float) -> nn.Module:
    """The slow plain way: the narrow network of full depth, whose last blocks pass on."""
    plain = net.extract(at(net, width, None), uncalibrated=True).train()
    for stage in net.plan.depth.stages:
        for block in stage.blocks[max(1, int(depth * len(stage.blocks) + 0.5)) :]:
            parent, _, name = block.rpartition(".")
            setattr(plain.get_submodule(parent), name, nn.Identity())
    return plain


def test_the_stages_are_found(family):
    net, blocks = family
    assert net.plan.depth.full_depths == blocks, net.report()
    for stage in net.plan.depth.stages:
        assert f"{stage.blocks[0]} stays; {', '.join(stage.blocks[1:])} can be" in net.report()
        kinds = {type(net.model.get_submodule(block)) for block in stage.blocks}
        assert len(kinds) == 1


@pytest.mark.parametrize(("width", "depth"), [(1.0, 0.5), (0.5, 0.25)])
def test_less_depth_is_the_network_without_the_last_blocks(family, width, depth):
    net, _ = family
    subnet, x = at(net, width, depth), images(net)
    switched = net.subnet(subnet).train()
    extracted = net.extract(subnet, uncalibrated=True).train()
    by_hand = _by_hand(net, width, depth)
    outputs = []
    for module in (switched, extracted, by_hand):
        torch.manual_seed(1)
        outputs.append(module(x))
    assert torch.equal(outputs[1], outputs[2])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
    assert list(extracted.state_dict()) == list(by_hand.state_dict())
    assert list(extracted.state_dict()) == list(switched.state_dict())
    removed = net.removed(subnet)
    assert removed
    assert all(type(extracted.get_submodule(block)) is nn.Identity for block in removed)
    assert not any(
        name.startswith(tuple(f"{b}." for b in removed)) for name in extracted.state_dict()
    )


def test_gradients_reach_the_shared_weights_of_the_blocks_that_run(family):
    net, _ = family
    net = copy.deepcopy(net).double()
    subnet, x = at(net, 0.5, 0.5), images(net).double()
    by_hand = _by_hand(net, 0.5, 0.5)
    for module in (net.subnet(subnet).train(), by_hand):
        torch.manual_seed(1)
        module(x).square().sum().backward()
    indices = net.plan.indices(net.counts(subnet))
    expected = dict(by_hand.named_parameters())
    for name, parameter in net.model.named_parameters():
        if name not in expected:
            assert parameter.grad is None, name
            continue
        grad = torch.zeros_like(parameter)
        place = np.ix_(*(
            np.arange(size)[indices.get(name, {}).get(dim, slice(None))]
            for dim, size in enumerate(grad.shape)
        ))  # fmt: skip
        if expected[name].grad is not None:
            grad[place] = expected[name].grad
        got = parameter.grad if parameter.grad is not None else torch.zeros_like(grad)
        torch.testing.assert_close(got, grad, rtol=1e-9, atol=1e-9, msg=name)


def test_full_depth_is_the_model_to_the_bit(family):
    net, _ = family
    net.model.eval()
    x = images(net)
    for depth in (None, 1.0):
        subnet = at(net, 1.0, depth)
        assert net.is_full(subnet)
        assert net.removed(subnet) == ()
        assert net.key(subnet) == net.key(at(net, 1.0, None))
        assert net.key(subnet).depths is None
        with torch.no_grad():
            assert torch.equal(net.subnet(subnet).eval()(x), net.model(x))
    assert not net.is_full(at(net, 1.0, 0.5))
    net.model.train()


def test_costs_are_those_of_the_extracted_network(family):
    net, _ = family
    costs, x = CostModel(net), images(net, 1)
    for width, depth in ((1.0, 0.5), (0.5, 0.25)):
        subnet = at(net, width, depth)
        plain = net.extract(subnet, uncalibrated=True).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            plain(x)
        counts = counter.get_flop_counts()["Global"]
        products = sum(n for op, n in counts.items() if "convolution" in str(op) or "mm" in str(op))
        products -= sum(n for op, n in counts.items() if "bmm" in str(op))
        assert 2 * costs.macs(subnet) == products
        assert costs.params(subnet) == sum(p.numel() for p in plain.parameters())
        assert costs.macs(subnet) < costs.macs(at(net, width, None))


@pytest.mark.parametrize(
    ("full", "shallow"),
    [
        (lambda: _resnet(BasicBlock, 2, 2, 2, 2), lambda: _resnet(BasicBlock, 1, 1, 1, 1)),
        (lambda: _resnet(Bottleneck, 3, 4, 6, 3), lambda: _resnet(Bottleneck, 2, 2, 3, 2)),
        (lambda: torchvision.models.resnet18(), lambda: torchvision.models.resnet.ResNet(
            torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])),
        (lambda: WideResNet(16, 2, 5), lambda: WideResNet(10, 2, 5)),
        (lambda: _convnext(2, 4, 2, 2), lambda: _convnext(1, 2, 1, 1)),
        (lambda: _vit(4), lambda: _vit(2)),
    ],
)  # fmt: skip
def test_half_depth_is_the_shallower_network_of_the_family(full, shallow):
    net, built = Supernet(full(), ElasticSpace(resolutions=(32,), depths=(1, 0.5))), shallow()
    extracted = net.extract(at(net, 1.0, 0.5), uncalibrated=True).eval()
    built.load_state_dict(extracted.state_dict())  # by name, and nothing is left over
    x = images(net)
    with torch.no_grad():
        assert torch.equal(built.eval()(x), extracted(x))
    # The other way round: the shallower network's weights fit where they came from.
    missing, unexpected = net.model.load_state_dict(built.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith(net.removed(at(net, 1.0, 0.5))) for name in missing)


# ------------------------------------------------------------------------------- statistics


def _calibrate(net: Supernet, *subnets: Subnet) -> None:
    batches = [(torch.randn(16, 3, 16, 16), torch.randint(4, (16,))) for _ in range(2)]
    calibrate(net, batches, subnets, task=Classification(), data_id="noise", num_samples=32)


def test_the_bank_holds_the_statistics_of_the_blocks_that_run():
    net = elastic_depth()
    deep, shallow = (Subnet(width_mult=0.5, resolution=16, depth_mult=d) for d in (None, 0.5))
    _calibrate(net, deep, shallow)
    assert set(net.bank) == {net.key(deep), net.key(shallow)}
    assert net.key(shallow).depths == (1, 1, 1)
    for subnet in (deep, shallow):
        sizes = [norm.num_features for _, norm in tracked_norms(net.subnet(subnet))]
        assert len(net.bank[net.key(subnet)].mean) == sum(sizes)
    x = torch.randn(2, 3, 16, 16)
    for subnet in (deep, shallow):
        with torch.no_grad():
            switched, plain = net.subnet(subnet).eval()(x), net.extract(subnet).eval()(x)
        torch.testing.assert_close(switched, plain, rtol=1e-5, atol=1e-5)


def test_the_models_own_statistics_serve_at_full_depth_alone():
    net = elastic_depth()
    x = torch.randn(2, 3, 16, 16)
    net.subnet(Subnet(resolution=16)).eval()(x)
    with pytest.raises(MissingStatisticsError, match=r"1x16 depth 0\.5 must be calibrated"):
        net.subnet(Subnet(resolution=16, depth_mult=0.5)).eval()(x)
    with pytest.raises(MissingStatisticsError, match=r"1x16 depth 0\.5 must be calibrated"):
        net.extract(Subnet(resolution=16, depth_mult=0.5))


def test_the_bank_keeps_depths_on_disk_and_others_stay_readable_by_older_versions(tmp_path):
    def statistics() -> BNStatistics:
        return BNStatistics(
            mean=torch.zeros(3),
            var=torch.ones(3),
            num_samples=4,
            batch_size=2,
            data_id="d",
            weights_version=1,
        )

    keys = [BankKey((8,), 16), BankKey((8,), 16, depths=(1, 2))]
    for version, some in (("1", keys[:1]), ("2", keys)):
        bank, other, path = BNBank(), BNBank(), tmp_path / version
        for key in some:
            bank.put(key, statistics())
        bank.save(path, weights_hash="w", weights_version=1)
        assert f'"version":"{version}"'.encode() in path.read_bytes()
        other.load(path, weights_hash="w", weights_version=1)
        assert set(other) == set(some)


# ---------------------------------------------------------------------------------- training


def test_a_step_over_depths_adds_up_the_gradients_of_its_sub_networks():
    net = elastic_depth().double()
    task, batch = Classification(), (torch.randn(4, 3, 16, 16).double(), torch.randint(4, (4,)))
    subnets = [
        Subnet(resolution=16),
        Subnet(width_mult=0.5, resolution=16, depth_mult=0.5),
        Subnet(width_mult=0.5, resolution=16),
        Subnet(width_mult=0.25, resolution=8, depth_mult=0.5),
    ]
    total = {name: torch.zeros_like(p) for name, p in net.model.named_parameters()}
    for subnet in subnets:
        alone = copy.deepcopy(net)
        sandwich_step(alone, batch, [subnet], task=task)
        for name, parameter in alone.model.named_parameters():
            total[name] += 0 if parameter.grad is None else parameter.grad
    for _ in range(2):  # the second time with sub-networks from the pool, in the other mode first
        net.model.eval()
        net.pooled_subnet(subnets[1])
        net.model.train()
        net.zero_grad()
        sandwich_step(net, batch, subnets, task=task, distill=False)
        for name, parameter in net.model.named_parameters():
            torch.testing.assert_close(parameter.grad, total[name], rtol=1e-9, atol=1e-9)


def test_a_sub_network_follows_its_supernet_to_another_dtype():
    net = elastic_depth()
    shallow = net.subnet(Subnet(width_mult=0.5, resolution=16, depth_mult=0.5)).train()
    net.double()
    x = torch.randn(2, 3, 16, 16).double()
    assert shallow(x).dtype == torch.float64
    assert all(b.dtype == torch.float64 for b in shallow.buffers() if b.is_floating_point())


# ------------------------------------------------------------------------ what cannot be left out


_SHARED = nn.Conv2d(16, 16, 3, padding=1)


def test_a_depth_that_was_not_trained_is_refused():
    net = elastic_depth()
    with pytest.raises(ValueError, match=r"depth_mult must be one of \(1.0, 0.5\), .* got 0.75"):
        net.subnet(Subnet(resolution=16, depth_mult=0.75))
    shallow = Supernet(wrn16_1(4), ElasticSpace(resolutions=(16,), depths=(0.5,)))
    assert shallow.space.largest.depth_mult == 0.5
    with pytest.raises(ValueError, match=r"got 1\. Add it"):
        shallow.subnet(Subnet(resolution=16))


def test_random_widths_and_depths_switch_as_they_extract():
    net, rng = elastic_depth(1, 0.5), np.random.default_rng(1)
    x = torch.randn(3, 3, 16, 16)
    for _ in range(5):
        names = [g.name for g in net.plan.groups if rng.random() < 0.4]
        subnet = Subnet(
            width_mult=float(rng.uniform(0.25, 1)),
            resolution=16,
            depth_mult=[None, 0.5][int(rng.integers(2))],
            group_widths={name: float(rng.uniform(0.25, 1)) for name in names},
        )
        switched = net.subnet(subnet).train()(x)
        plain = net.extract(subnet, uncalibrated=True).train()
        torch.testing.assert_close(switched, plain(x), rtol=1e-5, atol=1e-5)
        assert CostModel(net).params(subnet) == sum(p.numel() for p in plain.parameters())


def test_slices_of_the_shared_weights_are_those_of_the_blocks_that_run():
    net = elastic_depth()
    subnet = Subnet(width_mult=0.5, resolution=16, depth_mult=0.5)
    slices, plain = net.weight_slices(subnet), net.extract(subnet, uncalibrated=True)
    assert list(slices) == [name for name, _ in plain.named_parameters()]
    for name, parameter in plain.named_parameters():
        assert torch.equal(take(slices[name].full, dict(slices[name].dims)), parameter)


def test_norms_of_each_width_serve_every_depth():
    space = ElasticSpace(widths=(1.0, 0.5), resolutions=(16,), depths=(1.0, 0.5))
    net = Supernet(wrn16_1(4), space, own_norms=True)
    with torch.no_grad():
        for number, parameter in enumerate(net.own_norms.parameters()):
            parameter.fill_(0.1 + number)
    subnet = Subnet(width_mult=0.5, resolution=16, depth_mult=0.5)
    deep, shallow = (
        dict(net.extract(s, uncalibrated=True).named_parameters())
        for s in (Subnet(width_mult=0.5, resolution=16), subnet)
    )
    for name, parameter in shallow.items():
        assert torch.equal(parameter, deep[name]), name
    for (name, parameter), where in zip(
        shallow.items(), net.weight_slices(subnet).values(), strict=True
    ):
        assert torch.equal(take(where.full, dict(where.dims)), parameter), name
