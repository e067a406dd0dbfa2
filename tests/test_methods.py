"""What the methods draw, and the space that each trains."""

from __future__ import annotations

import numpy as np
import pytest

from mutualnet.methods import METHODS, SandwichRule
from mutualnet.space import ElasticSpace, Subnet


def _draws(rule: SandwichRule, space: ElasticSpace, count: int = 300) -> list[tuple[Subnet, ...]]:
    rng = np.random.default_rng(0)
    return [rule.draw(space, rng) for _ in range(count)]


def test_the_same_state_gives_the_same_draw():
    rule, space = METHODS["mutualnet"], ElasticSpace()
    assert _draws(rule, space) == _draws(rule, space)


def test_mutualnet_draws_the_sandwich_each_at_its_own_resolution():
    space = ElasticSpace()
    draws = _draws(METHODS["mutualnet"], space)
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
    widths = np.sort(
        [s.width_mult for d in _draws(METHODS["mutualnet"], ElasticSpace()) for s in d]
    )
    inner = widths[(widths > 0.25) & (widths < 1)]
    expected = 0.25 + 0.75 * (np.arange(len(inner)) + 0.5) / len(inner)
    assert len(inner) == 600
    assert np.abs(inner - expected).max() < 0.75 * 1.63 / 600**0.5  # Kolmogorov, 1 %


def test_us_net_stays_at_the_top_resolution():
    draws = _draws(METHODS["us_net"], ElasticSpace())
    assert {s.resolution for draw in draws for s in draw} == {224}
    assert {len(draw) for draw in draws} == {4}


@pytest.mark.parametrize("name", ["us_net_multi_scale", "multi_scale"])
def test_multi_scale_shares_one_draw_with_the_largest(name):
    draws = _draws(METHODS[name], ElasticSpace())
    assert all(len({s.resolution for s in draw}) == 1 for draw in draws)
    assert {draw[0].resolution for draw in draws} == {224, 192, 160, 128}


def test_gradaug_has_three_random_and_no_forced_smallest():
    draws = _draws(METHODS["gradaug"], ElasticSpace(width_range=(0.9, 1.0)))
    assert {len(draw) for draw in draws} == {4}
    assert not any(s.width_mult == 0.9 for draw in draws for s in draw)


def test_independent_runs_the_largest_alone():
    space = ElasticSpace(widths=(0.5,), resolutions=(160,))
    assert set(_draws(METHODS["independent"], space)) == {(space.largest,)}


def test_random_widths_come_from_a_list_where_there_is_one():
    space = ElasticSpace(widths=(1.0, 0.5, 0.25))
    widths = {s.width_mult for draw in _draws(METHODS["mutualnet"], space) for s in draw}
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


CLIPS = ElasticSpace(resolutions=(32, 16), frames=(8, 4, 2))


def test_frames_are_drawn_as_resolutions_are():
    rng = np.random.default_rng(0)
    drawn = [METHODS["mutualnet"].draw(CLIPS, rng) for _ in range(200)]
    assert {step[0].num_frames for step in drawn} == {8}
    assert all({step[place].num_frames for step in drawn} == {8, 4, 2} for place in (1, 2, 3))
    assert {(s.resolution, s.num_frames) for step in drawn for s in step[1:]} == {
        (side, frames) for side in (32, 16) for frames in (8, 4, 2)
    }
    shared = [METHODS["us_net_multi_scale"].draw(CLIPS, rng) for _ in range(50)]
    assert all(len({s.num_frames for s in step}) == 1 for step in shared)
    assert {step[0].num_frames for step in shared} == {8, 4, 2}
    assert {s.num_frames for s in METHODS["us_net"].draw(CLIPS, rng)} == {8}


def test_a_network_alone_is_trained_on_all_frames():
    assert METHODS["independent"].space(CLIPS).frames == (8,)
    assert METHODS["mutualnet"].space(CLIPS, frames=(4, 2)).frames == (4, 2)
    assert METHODS["multi_scale"].space(CLIPS).frames == (8, 4, 2)


@pytest.mark.parametrize("name", ["mutualnet", "us_net", "gradaug", "s_net"])
def test_a_list_of_widths_stays_when_something_else_changes(name):
    base = ElasticSpace(widths=(1.0, 0.5, 0.25), resolutions=(32,), frames=(4,))
    for change in ({"resolutions": (24,)}, {"depths": (1.0, 0.5)}, {"frames": (2,)}):
        changed = METHODS[name].space(base, **change)
        assert changed.widths == base.widths
        assert changed != base
    ranged = METHODS[name].space(base, width_range=(0.5, 1.0))
    assert (ranged.widths is None) == (name != "s_net")
    assert ranged.width_range == (0.5, 1.0)


def test_a_list_that_another_method_needed_gives_way_to_its_range():
    base = ElasticSpace(widths=(1.0, 0.5, 0.25), resolutions=(32,))
    space = METHODS["mutualnet"].space(base, before=METHODS["s_net"])
    assert (space.widths, space.width_range) == (None, (0.25, 1.0))
    assert METHODS["us_net"].space(base, before=METHODS["mutualnet"]).widths == base.widths


@pytest.mark.parametrize("name", ["independent", "s_net"])
def test_the_top_resolution_is_the_largest_however_they_are_ordered(name):
    assert METHODS[name].space(ElasticSpace(), resolutions=(20, 32)).resolutions == (32,)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("width_range", [(1.0, 0.25), (0.0, 1.0)])
def test_every_method_refuses_an_empty_range(name, width_range):
    with pytest.raises(ValueError, match="width_range must satisfy 0 < low <= high, got"):
        METHODS[name].space(ElasticSpace(), width_range=width_range)
