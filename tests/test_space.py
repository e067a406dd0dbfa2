"""Sub-networks and spaces as values."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mutualnet.space import ElasticSpace, Subnet


def test_a_subnet_is_a_hashable_value_that_survives_a_round_trip():
    plain = Subnet(width_mult=0.5, resolution=160)
    mixed = Subnet(width_mult=0.5, resolution=160, group_widths={"b": 0.25, "a": 1})
    assert mixed.group_widths == (("a", 1.0), ("b", 0.25))
    assert len({plain, mixed, Subnet(width_mult=0.5, resolution=160)}) == 2
    for subnet in (plain, mixed, Subnet(num_frames=8, depth_mult=0.5)):
        assert Subnet.from_dict(subnet.to_dict()) == subnet
    assert str(plain) == "0.5x160"
    assert str(Subnet(num_frames=8, depth_mult=0.5)) == "1x224x8f depth 0.5"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width_mult": 0}, "width_mult must be > 0, got 0"),
        ({"width_mult": float("nan")}, "width_mult must be > 0, got nan"),
        ({"resolution": 0}, "resolution must be a whole number >= 1, got 0"),
        ({"resolution": 12.5}, "resolution must be a whole number >= 1, got 12.5"),
        ({"resolution": True}, "resolution must be a whole number >= 1, got True"),
        ({"resolution": "224"}, "resolution must be a whole number >= 1, got '224'"),
        ({"num_frames": 0}, "num_frames must be a whole number >= 1, got 0"),
        ({"num_frames": 2.5}, "num_frames must be a whole number >= 1, got 2.5"),
        ({"width_mult": True}, "width_mult must be a number, got True"),
        ({"width_mult": "1"}, "width_mult must be a number, got '1'"),
        ({"width_mult": None}, "width_mult must be a number, got None"),
        ({"depth_mult": "1"}, "depth_mult must be a number, got '1'"),
        ({"depth_mult": 1.5}, r"depth_mult must lie in \(0, 1\], got 1.5"),
        ({"group_widths": (("a", -1),)}, "group_widths must be > 0, got -1.0 for 'a'"),
        ({"group_widths": {"a": float("inf")}}, "group_widths must be finite, got inf for 'a'"),
        ({"group_widths": (("a", 1), ("a", 0.5))}, "group_widths must name each once"),
    ],
)
def test_a_subnet_checks_itself(values, message):
    with pytest.raises(ValueError, match=message):
        Subnet(**values)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32, np.float64, float])
def test_numbers_of_other_types_become_pythons(kind):
    subnet = Subnet(
        width_mult=np.float32(0.5), resolution=kind(24), num_frames=kind(4), depth_mult=kind(1)
    )
    values = [subnet.width_mult, subnet.resolution, subnet.num_frames, subnet.depth_mult]
    assert [type(value) for value in values] == [float, int, int, float]
    assert Subnet.from_dict(json.loads(json.dumps(subnet.to_dict()))) == subnet
    assert subnet == Subnet(width_mult=0.5, resolution=24, num_frames=4, depth_mult=1)


def test_different_sub_networks_have_different_names():
    """Latencies, and what is to be exported, go by names."""
    several = [
        Subnet(width_mult=1.0, resolution=32),
        Subnet(width_mult=1.0002, resolution=32),
        Subnet(width_mult=0.90001, resolution=32),
        Subnet(width_mult=0.9, resolution=32),
        Subnet(resolution=32, depth_mult=0.5),
        Subnet(resolution=32, depth_mult=0.50001),
        Subnet(resolution=32, group_widths={"layer[1,2].*": 0.5}),
        Subnet(resolution=32, group_widths={"layer[1,2].*": 0.6}),
        Subnet(resolution=32, group_widths={"a": 0.5}),
        Subnet(resolution=32, group_widths={"a": 0.50001}),
    ]
    names = [str(subnet) for subnet in several]
    assert len(set(names)) == len(several)
    assert not any("," in name for name in names)  # they part names on the command line
    assert Subnet(resolution=32, group_widths={}) == Subnet(resolution=32)


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="a Subnet has no field 'width'"):
        Subnet.from_dict({"width": 0.5})


def test_the_default_grid_has_16_widths_and_4_resolutions_largest_first():
    space = ElasticSpace()
    grid = space.grid()
    assert len(grid) == len(set(grid)) == 64
    assert grid[0] == space.largest == Subnet(width_mult=1.0, resolution=224)
    assert grid[-1] == space.smallest == Subnet(width_mult=0.25, resolution=128)
    assert space.grid_widths() == tuple(round(1 - 0.05 * i, 2) for i in range(16))


@pytest.mark.parametrize(
    ("width_range", "step", "expected"),
    [
        ((1, 2), 0.25, (2.0, 1.75, 1.5, 1.25, 1.0)),
        ((0.25, 1.0), 0.5, (1.0, 0.75, 0.25)),  # the step does not divide the range
        ((0.5, 0.5), 0.05, (0.5,)),
        ((0.9, 1.0), 0.05, (1.0, 0.95, 0.9)),
    ],
)
def test_grid_widths_hold_both_ends(width_range, step, expected):
    assert ElasticSpace(width_range=width_range, width_step=step).grid_widths() == expected


def test_a_list_of_widths_takes_the_place_of_the_range():
    space = ElasticSpace(widths=(0.25, 1.0, 0.5), resolutions=(32,))
    assert space.grid_widths() == (1.0, 0.5, 0.25)
    assert space.width_range == (0.25, 1.0)
    space.check(Subnet(width_mult=0.5, resolution=32))
    with pytest.raises(ValueError, match=r"width_mult must be one of \(1.0, 0.5, 0.25\)"):
        space.check(Subnet(width_mult=0.6, resolution=32))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width_mult": 0.2}, r"width_mult must be in \[0.25, 1\], .* got 0.2. Widen the space"),
        ({"group_widths": {"a": 1.2}}, r"width_mult must be in \[0.25, 1\], .* got 1.2"),
        ({"resolution": 100}, r"resolution must be one of \(224, 192, 160, 128\), got 100"),
        ({"num_frames": 8}, "num_frames must be None in a space of images, got 8"),
        ({"depth_mult": 0.5}, "depth_mult is not elastic in this space, leave it None"),
    ],
)
def test_what_the_space_does_not_hold_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ElasticSpace().check(Subnet(**values))


def test_all_of_the_grid_lies_inside_the_space():
    for space in (ElasticSpace(), ElasticSpace(width_range=(1, 2)), ElasticSpace(widths=(0.3,))):
        for subnet in space.grid():
            space.check(subnet)
    ElasticSpace().check(Subnet(width_mult=0.05 * 20, group_widths={"a": 0.05 * 5}))


def test_resolutions_are_kept_in_falling_order_without_repeats():
    assert ElasticSpace(resolutions=(128, 224, 128)).resolutions == (224, 128)


@pytest.mark.parametrize(
    ("width_range", "expected"), [((0.25, 1.0), 1.0), ((1, 2), 2.0), ((0.25, 0.5), 1.0)]
)
def test_the_model_is_the_base_network_or_the_widest(width_range, expected):
    assert ElasticSpace(width_range=width_range).full_width_mult == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width_range": (0, 1)}, r"0 < low <= high, got \(0, 1\)"),
        ({"width_range": (1, 0.5)}, "0 < low <= high"),
        ({"width_range": (1,)}, r"width_range must be \(low, high\)"),
        ({"widths": ()}, "widths must name at least one"),
        ({"resolutions": ()}, "resolutions must be whole numbers"),
        ({"resolutions": 224}, "resolutions must be a list, got 224"),
        ({"frames": 8}, "frames must be a list, got 8"),
        ({"resolutions": (224, -1)}, "resolutions must be whole numbers"),
        ({"width_step": 0}, "width_step must be > 0, got 0"),
        ({"width_range": (1, 2), "model_width_mult": 1}, "at least the top of width_range"),
    ],
)
def test_a_space_checks_itself(values, message):
    with pytest.raises(ValueError, match=message):
        ElasticSpace(**values)


def test_frames_are_a_dimension_of_the_grid():
    space = ElasticSpace(width_range=(0.5, 1), width_step=0.5, resolutions=(16, 8), frames=(2, 8))
    assert space.frames == (8, 2)
    assert space.largest.num_frames == 8
    assert space.smallest == Subnet(width_mult=0.5, resolution=8, num_frames=2)
    assert [(s.resolution, s.num_frames) for s in space.grid()[:4]] == [
        (16, 8), (16, 2), (8, 8), (8, 2)
    ]  # fmt: skip
    assert len(space.grid()) == 8
    for subnet in space.grid():
        space.check(subnet)
    with pytest.raises(ValueError, match=r"num_frames must be one of \(8, 2\), got None"):
        space.check(Subnet(resolution=16))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ((), r"frames must be whole numbers >= 1, got \(\)"),
        ((8, 0), r"frames must be whole numbers >= 1, got \(8, 0\)"),
        ((2000,), "frames must be at most 1024, got 2000"),
        (tuple(range(1, 200)), "the grid must have at most 4096 .* 199 numbers of frames"),
    ],
)
def test_frames_that_make_no_sense_are_refused(frames, message):
    with pytest.raises(ValueError, match=message):
        ElasticSpace(frames=frames)


@pytest.mark.parametrize(
    "values",
    [
        {"width_mult": 10**400},
        {"resolution": 10**400},
        {"num_frames": 10**400},
        {"group_widths": {"a": 10**400}},
    ],
)
def test_a_subnet_has_no_number_that_no_machine_counts(values):
    with pytest.raises(ValueError, match=rf"{next(iter(values))} must lie below 2\*\*53"):
        Subnet(**values)
