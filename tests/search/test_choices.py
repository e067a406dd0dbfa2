"""Points of a search and the sub-networks they are."""

from __future__ import annotations

import pytest

from mutualnet.search.choices import Choices
from mutualnet.space import Subnet


def test_points_of_one_width_are_plain_sub_networks(net):
    choices = Choices.of(net, "stage", 4)
    assert choices.widths == (1.0, 0.75, 0.5, 0.25)
    assert choices.num_levels == (4, 4, 4, 2, 2)
    assert choices.subnet((0, 0, 0, 0, 0)) == net.space.largest
    assert choices.subnet((3, 3, 3, 1, 1)) == net.space.smallest
    uniform = {choices.subnet(point) for point in choices.uniform()}
    assert len(uniform) == 16
    assert all(subnet.group_widths is None for subnet in uniform)
    mixed = choices.subnet((0, 2, 3, 0, 1))
    widths = net.stage_widths([1, 0.5, 0.25])
    assert net.key(mixed) == net.key(Subnet(resolution=8, group_widths=widths))
    assert len(Choices.of(net, "group", 4).units) == len(net.plan.groups)
    for wrong in (("block", 4), ("stage", 1)):
        with pytest.raises(ValueError, match="must be"):
            Choices.of(net, *wrong)


def test_frames_are_an_axis_of_their_own_where_clips_have_several():
    choices = Choices(
        units=(("a",), ("b",)), widths=(1.0, 0.5), depths=(None,), resolutions=(8,), frames=(4, 2)
    )
    assert choices.num_levels == (2, 2, 1, 1, 2)
    assert choices.subnet((0, 1, 0, 0, 1)) == Subnet(
        resolution=8, num_frames=2, group_widths={"b": 0.5}
    )
    assert len(choices.uniform()) == 4
