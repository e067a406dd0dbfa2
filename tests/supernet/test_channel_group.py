"""How many channels of a group a width keeps."""

from __future__ import annotations

from mutualnet.supernet.channel_group import ChannelGroup
from mutualnet.supernet.channel_rules import ChannelRule


def test_a_group_keeps_its_share_in_whole_blocks_by_its_rule():
    plain = ChannelGroup(name="a", size=64, layers=("a",))
    assert [plain.count(share) for share in (0.25, 0.4, 0.5, 1.0)] == [16, 24, 32, 64]
    heads = ChannelGroup(name="qkv", size=192, layers=("qkv",), step=48)
    assert [heads.count(share) for share in (0.1, 0.5, 0.7, 1.0)] == [48, 96, 144, 192]
    wide = ChannelGroup(name="b", size=96, layers=("b",), rule=ChannelRule(ratio=6))
    assert wide.count(0.5) == 48
    fixed = ChannelGroup(name="c", size=10, layers=("c",), rule=ChannelRule(fixed=True))
    assert fixed.count(0.25) == 10
    assert ChannelGroup(name="d", size=32, layers=("d",), step=8, least=2).count(0.1) == 16


def test_a_part_of_a_layer_keeps_its_proportion_of_the_whole():
    part = ChannelGroup(name="a#2", size=10, layers=("a",), whole=40)
    rest = ChannelGroup(name="a", size=30, layers=("a",), whole=40)
    assert [part.count(share) for share in (0.25, 0.5, 0.8, 1.0)] == [4, 6, 8, 10]
    assert [rest.count(share) for share in (0.25, 0.5, 0.8, 1.0)] == [12, 18, 24, 30]
    assert ChannelGroup(name="a", size=2, layers=("a",), whole=80).count(0.01) == 1
