"""Widths by groups, layers and patterns of layers, and by stages."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import timm
import torch

from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.channel_group import ChannelGroup
from mutualnet.supernet.channel_plan import ChannelPlan
from mutualnet.supernet.supernet import Supernet
from tests.zoo import small, small_dense

GROUPS = (
    ChannelGroup(name="stem", size=64, layers=("stem", "one.0.conv2", "one.1.conv2")),
    ChannelGroup(name="one.0.conv1", size=64, layers=("one.0.conv1",)),
    ChannelGroup(name="two.0.conv1", size=64, layers=("two.0.conv1",)),
    ChannelGroup(name="two.0.conv2", size=64, layers=("two.0.conv2", "two.1.conv2")),
    ChannelGroup(name="stem#2", size=64, layers=("stem",)),
)
PLAN = ChannelPlan(groups=GROUPS, tensors={})


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ({}, (4, 4, 4, 4, 4)),
        ({"stem": 1.0}, (8, 4, 4, 4, 4)),  # the name of a group is that group's alone
        ({"stem*": 1.0}, (8, 4, 4, 4, 8)),
        ({"one.1.conv2": 1.0}, (8, 4, 4, 4, 4)),  # a layer stands for what it is tied to
        ({"one.*": 1.0}, (8, 8, 4, 4, 4)),
        ({"*": 0.25, "two.*": 1.0}, (2, 2, 8, 8, 2)),  # more literal characters count first
        ({"two.*": 1.0, "two.0.conv1": 0.25}, (4, 4, 2, 8, 4)),
        ({"tw?.[0-9].conv2": 0.75}, (4, 4, 4, 6, 4)),
        ({"*.conv2": 0.75, "two.*": 0.75}, (6, 4, 6, 6, 4)),  # both match, and they agree
    ],
)
def test_the_most_specific_key_decides(widths, expected):
    for order in itertools.permutations(widths.items()):
        assert tuple(count // 8 for count in PLAN.counts(0.5, dict(order))) == expected


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"three.*": 0.5}, r"got 'three\.\*'\. Known: stem, one\.0\.conv1"),
        ({"one": 0.5}, "got 'one'"),
        (
            {"one.0.conv2": 0.5, "one.1.*": 1.0},
            r"two by 'one\.0\.conv2' \(for one\.0\.conv2\) and 'one\.1\.\*' \(for one\.1\.conv2\): "
            "the channels of stem are tied",
        ),
        (  # one layer, two patterns of as many characters
            {"two*v1": 0.5, "*.con?1": 1.0},
            r"two by 'two\*v1' .* and '\*\.con\?1' .* the channels of two\.0\.conv1",
        ),
    ],
)
def test_keys_that_match_nothing_or_contradict_each_other_are_named(widths, message):
    with pytest.raises(ValueError, match=f"group_widths must .*{message}"):
        PLAN.counts(0.5, widths)


def test_of_linked_groups_any_may_be_named_and_two_must_agree():
    plan = ChannelPlan(groups=GROUPS, tensors={}, links=((1, 2),))
    assert plan.counts(0.5, {"two.0.conv1": 1.0}) == (32, 64, 64, 32, 32)
    assert plan.counts(0.5, {"one.0.conv1": 0.25}) == (32, 16, 16, 32, 32)
    with pytest.raises(ValueError, match=r"one\.0\.conv1 and two\.0\.conv1 keep one share"):
        plan.counts(0.5, {"one.0.conv1": 0.25, "two.0.conv1": 1.0})


def test_patterns_and_groups_that_mean_the_same_network_are_one():
    net = small()
    base = {"width_mult": 0.5, "resolution": 16}
    inner = [g.name for g in net.plan.groups if g.name.startswith("stage2") and "conv1" in g.name]
    by_name = Subnet(**base, group_widths=dict.fromkeys(inner, 1.0))
    by_pattern = Subnet(**base, group_widths={"stage2.*.conv1": 1.0})
    assert by_name != by_pattern
    assert net.key(by_name) == net.key(by_pattern) != net.key(Subnet(**base))
    assert list(net.distinct([by_name, by_pattern, Subnet(**base)]).values()) == [
        by_name,
        Subnet(**base),
    ]
    assert net.key(Subnet(**base, group_widths={"*": 0.5})) == net.key(Subnet(**base))


@pytest.mark.parametrize("make", [small, small_dense])
def test_random_widths_of_groups_switch_as_they_extract(make):
    net, rng = make(), np.random.default_rng(0)
    side = net.space.resolutions[0]
    x = torch.randn(3, 3, side, side)
    for _ in range(3):
        names = [g.name for g in net.plan.groups if rng.random() < 0.5]
        widths = {name: float(rng.uniform(0.25, 1)) for name in names}
        subnet = Subnet(
            width_mult=float(rng.uniform(0.25, 1)), resolution=side, group_widths=widths
        )
        switched = net.subnet(subnet).train()(x)
        plain = net.extract(subnet, uncalibrated=True).train()
        torch.testing.assert_close(switched, plain(x), rtol=1e-5, atol=1e-5)
        for group, count in zip(net.plan.groups, net.counts(subnet), strict=True):
            assert count == group.count(widths.get(group.name, subnet.width_mult))


def test_the_example_of_the_docs_means_what_it_says():
    net = Supernet(timm.create_model("resnet18", num_classes=4), ElasticSpace(resolutions=(64,)))
    widths = {"layer1.*": 0.5, "layer*.conv2": 0.75}
    counts = net.counts(Subnet(width_mult=1.0, resolution=64, group_widths=widths))
    found = dict(zip([group.name for group in net.plan.groups], counts, strict=True))
    assert found == {
        "conv1": 48,  # what layer1's second convolutions add to is tied to the stem
        "layer1.0.conv1": 32,
        "layer1.1.conv1": 32,
        "layer2.0.conv1": 128,
        "layer2.0.conv2": 96,
        "layer2.1.conv1": 128,
        "layer3.0.conv1": 256,
        "layer3.0.conv2": 192,
        "layer3.1.conv1": 256,
        "layer4.0.conv1": 512,
        "layer4.0.conv2": 384,
        "layer4.1.conv1": 512,
    }


def test_a_list_per_stage_becomes_group_widths():
    net = small()
    widths = net.stage_widths([1, 0.5, 0.25])
    subnet = Subnet(width_mult=1.0, resolution=16, group_widths=widths)
    counts = zip(net.plan.groups, net.counts(subnet), strict=True)
    shares = {group.name: count / group.size for group, count in counts}
    assert {name[:6]: share for name, share in shares.items()} == {
        "stem": 1.0,
        "stage1": 1.0,
        "stage2": 0.5,
        "stage3": 0.25,
    }
    assert net.key(
        Subnet(resolution=16, width_mult=0.5, group_widths=net.stage_widths([0.5] * 3))
    ) == net.key(Subnet(resolution=16, width_mult=0.5))
    with pytest.raises(ValueError, match=r"one width for each of 3 stages, got 2.* 16 px: stem"):
        net.stage_widths([1, 0.5])


def test_a_width_outside_of_the_space_is_refused():
    net = small()
    subnet = Subnet(width_mult=0.5, resolution=16, group_widths={"stage2.*": 0.1})
    with pytest.raises(ValueError, match=r"width_mult must be in \[0.25, 1\].* got 0.1"):
        net.subnet(subnet)


def test_a_short_name_tells_sub_networks_apart():
    few = Subnet(width_mult=1.0, resolution=16, group_widths={"a.*": 0.5, "b": 0.25})
    assert str(few) == "1x16 (a.*=0.5 b=0.25)"
    names = [
        str(Subnet(group_widths={f"layer{i}": width for i in range(9)})) for width in (0.5, 0.6)
    ]
    assert len(set(names)) == 2
    assert all(name.startswith("1x224 (9 widths #") and len(name) < 30 for name in names)
