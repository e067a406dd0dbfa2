"""How many blocks a depth keeps, and which depths are one network."""

from __future__ import annotations

from mutualnet.space import Subnet
from mutualnet.supernet.depth_plan import BlockStage
from tests.zoo import elastic_depth


def test_what_a_block_that_is_left_out_would_be_does_not_count():
    net = elastic_depth()
    base = {"width_mult": 0.5, "resolution": 16, "depth_mult": 0.5}
    plain = Subnet(**base)
    same = Subnet(**base, group_widths={"stage2.1.conv1": 1.0})
    other = Subnet(**base, group_widths={"stage2.0.conv1": 1.0})
    assert net.key(plain) == net.key(same) != net.key(other)
    assert net.counts(plain) == net.counts(same)
    deep = {**base, "depth_mult": None}
    assert net.key(Subnet(**deep)) != net.key(Subnet(**deep, group_widths={"stage2.1.conv1": 1.0}))


def test_depths_that_keep_the_same_blocks_are_one_network():
    net = elastic_depth(1, 0.9, 0.6, 0.5)
    at_depth = {d: net.key(Subnet(resolution=16, depth_mult=d)) for d in (1, 0.9, 0.6, 0.5)}
    assert at_depth[1] == at_depth[0.9]
    assert at_depth[0.6] == at_depth[0.5] != at_depth[1]
    assert len(net.distinct(net.space.grid())) == len(net.distinct(elastic_depth().space.grid()))


def test_a_stage_keeps_the_nearest_number_of_blocks_and_at_least_one():
    stage = BlockStage(name="s", blocks=tuple("abcde"))
    kept = {0.01: 1, 0.1: 1, 0.29: 1, 0.3: 2, 0.5: 3, 0.7: 4, 0.89: 4, 0.9: 5, 1.0: 5}
    assert {depth: stage.kept(depth) for depth in kept} == kept
