"""The plan's index lists, and what they mean: dropping a channel is to let nobody see it."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from mutualnet.models.cifar import wrn16_4
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.bn_bank import tracked_norms
from mutualnet.supernet.channel_group import ChannelGroup
from mutualnet.supernet.channel_plan import Axis, ChannelPlan, Segment, SizeAttribute
from mutualnet.supernet.channel_rules import ChannelRule
from mutualnet.supernet.narrow import take
from mutualnet.supernet.supernet import Supernet
from tests.supernet.hard_models import ELASTIC, FROZEN, MIXING

# ------------------------------------------------------------------------------ index lists


def _segment(group: int, positions: list[int], channels: list[int]) -> Segment:
    return Segment(group=group, positions=np.array(positions), channels=np.array(channels))


def _axis(size: int, *segments: Segment) -> Axis:
    return Axis(size=size, segments=segments)


def test_one_group_along_a_whole_axis_keeps_a_leading_block():
    axis = _axis(4, _segment(0, [0, 1, 2, 3], [0, 1, 2, 3]))
    assert [axis.index([n]) for n in (1, 3, 4)] == [slice(0, 1), slice(0, 3), slice(0, 4)]


def test_flattened_channels_keep_all_their_pixels():
    axis = _axis(6, _segment(0, list(range(6)), [0, 0, 0, 1, 1, 1]))
    assert [axis.index([n]) for n in (1, 2)] == [slice(0, 3), slice(0, 6)]


def test_channels_between_pixels_are_gathered():
    axis = _axis(6, _segment(0, list(range(6)), [0, 1, 2, 0, 1, 2]))
    assert axis.index([2]).tolist() == [0, 1, 3, 4]
    assert axis.index([3]) == slice(0, 6)


def test_a_concatenation_keeps_the_front_of_every_part_and_all_that_is_frozen():
    axis = _axis(9, _segment(0, [0, 1, 2], [0, 1, 2]), _segment(1, [5, 6, 7, 8], [0, 1, 2, 3]))
    assert axis.index([1, 2]).tolist() == [0, 3, 4, 5, 6]  # 3 and 4 belong to no group
    assert axis.index([3, 1]) == slice(0, 6)


@pytest.fixture
def plan():
    axis = _axis(16, _segment(0, list(range(16)), list(range(16))))
    blocks = _axis(4, _segment(0, [0, 1, 2, 3], [0, 4, 8, 12]))
    halves = _axis(8, _segment(0, list(range(8)), list(range(0, 16, 2))))
    tensors = {"a.weight": {0: axis}, "a.bias": {0: axis}, "b.weight": {0: axis, 1: halves}}
    attributes = {
        "a": (SizeAttribute(name="out_channels", item=None, axis=axis),),
        "b": (
            SizeAttribute(name="groups", item=None, axis=blocks),
            SizeAttribute(name="sizes", item=1, axis=halves),
        ),
    }
    groups = (
        ChannelGroup(name="a", size=16, layers=("a", "b"), step=4),
        ChannelGroup(name="c", size=10, layers=("c",), rule=ChannelRule(fixed=True)),
    )
    return ChannelPlan(groups=groups, tensors=tensors, attributes=attributes)


def test_counts_follow_share_step_rule_and_single_groups(plan):
    assert plan.full_counts == plan.counts(1.0) == (16, 10)
    assert plan.counts(0.5) == (8, 10)
    assert plan.counts(0.01) == (4, 10)
    assert plan.counts(0.5, {"a": 1.0}) == (16, 10)


def test_a_width_for_an_unknown_group_is_refused(plan):
    with pytest.raises(ValueError, match=r"got 'd'\. Known: a, c\.\.\. \(see Supernet.report"):
        plan.counts(0.5, {"d": 0.5})


def test_indices_go_by_full_name_and_attributes_count_in_their_own_unit(plan):
    block = slice(0, 8)
    assert plan.indices((8, 10)) == {
        "a.weight": {0: block},
        "a.bias": {0: block},
        "b.weight": {0: block, 1: slice(0, 4)},
    }
    assert plan.sizes((8, 10)) == {
        "a": {("out_channels", None): 8},
        "b": {("groups", None): 2, ("sizes", 1): 4},
    }


def test_linked_groups_keep_one_share_in_blocks_that_all_of_them_have():
    groups = (
        ChannelGroup(name="trunk", size=64, layers=("trunk",)),
        ChannelGroup(name="heads", size=192, layers=("qkv",), step=48),  # four heads
        ChannelGroup(name="free", size=64, layers=("free",)),
    )
    plan = ChannelPlan(groups=groups, tensors={}, links=((0, 1),))
    assert plan.counts(0.5) == (32, 96, 32)
    assert plan.counts(0.4) == (32, 96, 24)  # 24 of 64 is half a head more than one
    assert plan.counts(0.01) == (16, 48, 1)
    assert plan.counts(0.5, {"trunk": 1.0}) == (64, 192, 32)


def test_take_is_a_view_where_it_can_be():
    full = torch.arange(60.0).view(5, 4, 3)
    view = take(full, {0: slice(0, 2), 2: slice(0, 1)})
    assert view.untyped_storage().data_ptr() == full.untyped_storage().data_ptr()
    assert torch.equal(view, full[:2, :, :1])
    assert take(full, {0: slice(0, 5)}) is full
    gathered = take(full, {0: slice(0, 2), 1: np.array([0, 3])})
    assert torch.equal(gathered, full[:2, [0, 3]])


# ------------------------------------------------------------------- what dropping a channel means


def _randomise(model: nn.Module) -> None:
    """Make every norm do something, so that a statistic in the wrong place shows."""
    for _, norm in tracked_norms(model):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        for module in model.modules():
            if not isinstance(module, (_ConvNd, nn.Linear)) and not list(module.children()):
                for parameter in module.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.3)


def _hide_dropped_channels(model: nn.Module, supernet: Supernet, subnet: Subnet) -> int:
    """Zero every weight by which a layer sees a dropped channel; return how many."""
    indices = supernet.plan.indices(supernet.counts(subnet))
    hidden = 0
    for name, module in model.named_modules():
        if not isinstance(module, (_ConvNd, nn.Linear, nn.RNNBase)):
            continue
        dim = 0 if getattr(module, "transposed", False) else 1
        for weight_name, weight in module.named_parameters(name, recurse=False):
            index = indices.get(weight_name, {}).get(dim) if weight.dim() > 1 else None
            if index is None:  # as in a layer of blocks, which hands dropped channels on
                continue
            seen = torch.zeros(weight.shape[dim], dtype=torch.bool)
            seen[index] = True
            with torch.no_grad():
                weight.index_fill_(dim, torch.nonzero(~seen).flatten(), 0)
            hidden += int((~seen).sum())
    return hidden


def _check_meaning(model: nn.Module, side: int, width: float) -> None:
    """The narrow network says what the full one says when nobody sees the dropped channels."""
    model = model.double().eval()
    _randomise(model)
    supernet = Supernet(model, ElasticSpace(resolutions=(side,)))
    subnet = Subnet(width_mult=width, resolution=side)
    narrow = supernet.extract(subnet, uncalibrated=True)
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        before = tree_leaves(model(x))
        hidden = _hide_dropped_channels(model, supernet, subnet)
        after, got = tree_leaves(model(x)), tree_leaves(narrow(x))
    assert hidden, supernet.report()
    for old, wanted, found in zip(before, after, got, strict=True):
        scale = wanted.std().item()
        assert (wanted - old).abs().max() > 1e-6 * scale  # the hidden channels did count
        assert (wanted[0] - wanted[1]).abs().max() > 1e-6 * scale  # the images do too
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-7 * scale)


NETWORKS = {
    "mobilenetv2_100": (lambda: timm.create_model("mobilenetv2_100", num_classes=10), 64),
    "resnet50": (lambda: timm.create_model("resnet50", num_classes=10), 64),
    "efficientnet_b0": (lambda: timm.create_model("efficientnet_b0", num_classes=10), 64),
    "densenet121": (lambda: timm.create_model("densenet121", num_classes=10), 64),
    "resnext50": (lambda: timm.create_model("resnext50_32x4d", num_classes=10), 64),
    "squeezenet": (lambda: torchvision.models.squeezenet1_1(num_classes=10), 64),
    "wrn16_4": (lambda: wrn16_4(10), 32),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_narrow_network_is_the_full_one_with_channels_hidden(name):
    make, side = NETWORKS[name]
    _check_meaning(make(), side, 0.5)


@pytest.mark.parametrize("width", [0.25, 0.6])
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("what", sorted((ELASTIC | FROZEN).keys() - MIXING))
def test_so_is_every_model_made_to_be_hard(what, width):
    # But for what mixes channels by design: there hidden ones still count.
    make = (ELASTIC | FROZEN)[what][0]
    _check_meaning(make(), 16, width)


def test_a_network_without_an_elastic_layer_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(
        ValueError, match=r"(?s)no layer of the model can be made narrower\. .*output"
    ):
        Supernet(model, ElasticSpace(resolutions=(8,)))
