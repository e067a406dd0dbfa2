"""Sub-networks, spaces and draws as values."""

import numpy as np
import pytest

from mutualnet.space import RULES, ElasticSpace, SandwichRule, Subnet


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
        ({"num_frames": 0}, "num_frames must be >= 1, got 0"),
        ({"depth_mult": 1.5}, r"depth_mult must lie in \(0, 1\], got 1.5"),
        ({"group_widths": (("a", -1),)}, "group_widths must be > 0, got -1.0 for 'a'"),
    ],
)
def test_a_subnet_checks_itself(values, message):
    with pytest.raises(ValueError, match=message):
        Subnet(**values)


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
        ({"num_frames": 8}, "num_frames is not elastic in this space, leave it None"),
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
        ({"resolutions": (224, -1)}, "resolutions must be whole numbers"),
        ({"width_step": 0}, "width_step must be > 0, got 0"),
        ({"width_range": (1, 2), "model_width_mult": 1}, "at least the top of width_range"),
    ],
)
def test_a_space_checks_itself(values, message):
    with pytest.raises(ValueError, match=message):
        ElasticSpace(**values)


def _draws(rule: SandwichRule, space: ElasticSpace, count: int = 300) -> list[tuple[Subnet, ...]]:
    rng = np.random.default_rng(0)
    return [rule.draw(space, rng) for _ in range(count)]


def test_the_same_state_gives_the_same_draw():
    rule, space = RULES["mutualnet"], ElasticSpace()
    assert _draws(rule, space) == _draws(rule, space)


def test_mutualnet_draws_the_sandwich_each_at_its_own_resolution():
    space = ElasticSpace()
    draws = _draws(RULES["mutualnet"], space)
    for draw in draws:
        assert len(draw) == 4
        assert draw[0] == space.largest
        assert draw[-1].width_mult == 0.25
        assert draw[1].width_mult >= draw[2].width_mult
    others = [s.resolution for draw in draws for s in draw[1:]]
    shares = [others.count(r) / len(others) for r in space.resolutions]
    assert shares == pytest.approx([0.25] * 4, abs=0.04)
    assert sum(len({s.resolution for s in draw[1:]}) > 1 for draw in draws) > 200


def test_random_widths_are_uniform():
    widths = np.sort([s.width_mult for d in _draws(RULES["mutualnet"], ElasticSpace()) for s in d])
    inner = widths[(widths > 0.25) & (widths < 1)]
    expected = 0.25 + 0.75 * (np.arange(len(inner)) + 0.5) / len(inner)
    assert len(inner) == 600
    assert np.abs(inner - expected).max() < 0.75 * 1.63 / 600**0.5  # Kolmogorov, 1 %


def test_us_net_stays_at_the_top_resolution():
    draws = _draws(RULES["us_net"], ElasticSpace())
    assert {s.resolution for draw in draws for s in draw} == {224}
    assert {len(draw) for draw in draws} == {4}


@pytest.mark.parametrize("name", ["us_net_multi_scale", "multi_scale"])
def test_multi_scale_shares_one_draw_with_the_largest(name):
    draws = _draws(RULES[name], ElasticSpace())
    assert all(len({s.resolution for s in draw}) == 1 for draw in draws)
    assert {draw[0].resolution for draw in draws} == {224, 192, 160, 128}


def test_gradaug_has_three_random_and_no_forced_smallest():
    draws = _draws(RULES["gradaug"], ElasticSpace(width_range=(0.9, 1.0)))
    assert {len(draw) for draw in draws} == {4}
    assert not any(s.width_mult == 0.9 for draw in draws for s in draw)


def test_independent_runs_the_largest_alone():
    space = ElasticSpace(widths=(0.5,), resolutions=(160,))
    assert set(_draws(RULES["independent"], space)) == {(space.largest,)}


def test_random_widths_come_from_a_list_where_there_is_one():
    space = ElasticSpace(widths=(1.0, 0.5, 0.25))
    widths = {s.width_mult for draw in _draws(RULES["mutualnet"], space) for s in draw}
    assert widths == {1.0, 0.5, 0.25}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_random": -1}, "num_random must be >= 0, got -1"),
        ({"scales": "all"}, "scales must be 'own', 'shared' or 'top', got 'all'"),
    ],
)
def test_a_rule_checks_itself(values, message):
    with pytest.raises(ValueError, match=message):
        SandwichRule(**values)
