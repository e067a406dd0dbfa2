"""BN weights of each width's own."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mutualnet.distributed import synchronise_norms
from mutualnet.methods import METHODS
from mutualnet.models.cifar import mobilenet_v1_cifar, wrn16_1
from mutualnet.sandwich import sandwich_step
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.supernet import Supernet
from mutualnet.tasks.classification import Classification

SPACE = ElasticSpace(widths=(0.25, 0.5, 1.0), resolutions=(16,))


@pytest.fixture
def supernet():
    torch.manual_seed(0)
    return Supernet(wrn16_1(4), SPACE, own_norms=True).train()


def _norms(module):
    return {n: m for n, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)}


def test_every_narrower_width_has_a_complete_set(supernet):
    sizes = [p.numel() for p in supernet.own_norms.parameters()]
    expected = 0
    for width in (0.5, 0.25):
        narrow = supernet.extract(Subnet(width_mult=width, resolution=16), uncalibrated=True)
        expected += 2 * sum(m.num_features for m in _norms(narrow).values())
    assert sum(sizes) == expected
    names = set(supernet.model.state_dict())
    assert names == set(wrn16_1(4).state_dict())


def test_a_step_moves_each_widths_norms_by_its_own_gradient(supernet):
    torch.manual_seed(1)
    batch = torch.randn(8, 3, 16, 16), torch.randint(4, (8,))
    half = Subnet(width_mult=0.5, resolution=16)
    plain = copy.deepcopy(supernet).extract(half, uncalibrated=True).train()
    nn.functional.cross_entropy(plain(batch[0]), batch[1]).backward()
    subnets = METHODS["s_net"].draw(SPACE, np.random.default_rng(0))
    assert [s.width_mult for s in subnets] == [1.0, 0.5, 0.25]
    sandwich_step(supernet, batch, subnets, task=Classification(), distill=False)
    own = {n: supernet.own_norms.owner(supernet.counts(half), n) for n in _norms(plain)}
    for name, norm in _norms(plain).items():
        torch.testing.assert_close(own[name].weight.grad, norm.weight.grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(own[name].bias.grad, norm.bias.grad, rtol=1e-4, atol=1e-6)
    full = supernet.model.stage1[0].norm1
    alone = copy.deepcopy(supernet.model)
    alone.zero_grad()
    nn.functional.cross_entropy(alone(batch[0]), batch[1]).backward()
    torch.testing.assert_close(full.weight.grad, alone.stage1[0].norm1.weight.grad)


def test_switched_extracted_and_copied_use_the_widths_own(supernet):
    half = Subnet(width_mult=0.5, resolution=16)
    with torch.no_grad():
        for number, parameter in enumerate(supernet.own_norms.parameters()):
            parameter.add_(0.01 * number)
    own = supernet.own_norms.owner(supernet.counts(half), "norm").weight
    for module in (
        supernet.subnet(half),
        supernet.extract(half, uncalibrated=True),
        copy.deepcopy(supernet).subnet(half),
    ):
        assert torch.equal(module.norm.weight, own)
    x = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(
        supernet.subnet(half).train()(x),
        supernet.extract(half, uncalibrated=True).train()(x),
        rtol=1e-5,
        atol=1e-5,
    )


def test_weights_of_the_norms_make_statistics_stale_and_change_the_hash(supernet):
    version, before = supernet.weights_version, supernet.weights_hash()
    with torch.no_grad():
        next(supernet.own_norms.parameters()).add_(1)
    assert supernet.weights_version != version
    assert supernet.weights_hash() != before


def test_other_widths_and_ranges_are_refused(supernet):
    with pytest.raises(ValueError, match="one of"):
        supernet.subnet(Subnet(width_mult=0.75, resolution=16))
    with pytest.raises(ValueError, match="one of the listed widths, whose BN weights"):
        supernet.subnet(
            Subnet(
                width_mult=0.5,
                resolution=16,
                group_widths=((supernet.plan.groups[0].name, 1.0),),
            )
        )
    with pytest.raises(ValueError, match="needs a space with a list of widths"):
        Supernet(wrn16_1(4), ElasticSpace(resolutions=(16,)), own_norms=True)
    model = wrn16_1(4)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="needs a space with a list of widths"):
        Supernet(model, ElasticSpace(resolutions=(16,)), own_norms=True, sort_channels="l1")
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    with pytest.raises(ValueError, match="every_width needs a space with a list"):
        METHODS["s_net"].draw(ElasticSpace(), np.random.default_rng(0))


@pytest.mark.parametrize("make", [wrn16_1, mobilenet_v1_cifar])
def test_bn_synchronised_after_tracing_narrows_like_plain_bn(make):
    plain = Supernet(make(4), ElasticSpace(resolutions=(16,)))
    synced = copy.deepcopy(plain)
    synced.model = synchronise_norms(synced.model)
    assert synced.model.state_dict().keys() == plain.model.state_dict().keys()
    x = torch.randn(2, 3, 16, 16)
    for width in (0.25, 0.6, 1.0):
        subnet = Subnet(width_mult=width, resolution=16)
        module = synced.extract(subnet, uncalibrated=True).eval()
        norms = [m for m in module.modules() if isinstance(m, nn.SyncBatchNorm)]
        assert len(norms) == len(_norms(plain.model))
        expected = plain.extract(subnet, uncalibrated=True).eval()(x)
        torch.testing.assert_close(module(x), expected)
