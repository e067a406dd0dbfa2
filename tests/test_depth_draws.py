"""Methods draw depths where a space has them."""

from __future__ import annotations

import numpy as np

from mutualnet.methods import METHODS
from mutualnet.space import ElasticSpace, Subnet


def test_draws_sample_depths_and_the_smallest_has_the_least():
    space = ElasticSpace(resolutions=(16, 8), depths=(0.5, 1, 0.75))
    rng = np.random.default_rng(0)
    draws = [METHODS["mutualnet"].draw(space, rng) for _ in range(50)]
    assert {subnet.depth_mult for draw in draws for subnet in draw[1:-1]} == {None, 0.75, 0.5}
    for largest, *_, smallest in draws:
        assert largest == space.largest == Subnet(resolution=16)
        assert (smallest.width_mult, smallest.depth_mult) == (0.25, 0.5)


def test_a_space_of_one_depth_draws_what_it_always_did():
    space, rng = ElasticSpace(resolutions=(16, 8)), np.random.default_rng(3)
    drawn = METHODS["mutualnet"].draw(space, rng)
    again = np.random.default_rng(3)
    widths = sorted([*again.uniform(0.25, 1, size=2), 0.25], reverse=True)
    again.integers(2)
    sides = [(16, 8)[int(again.integers(2))] for _ in range(3)]
    assert [(s.width_mult, s.resolution) for s in drawn[1:]] == list(
        zip(widths, sides, strict=True)
    )
    assert all(subnet.depth_mult is None for subnet in drawn)


def test_methods_that_train_one_network_train_full_depth():
    space = ElasticSpace(resolutions=(16, 8), depths=(1, 0.5))
    assert METHODS["independent"].space(space).depths == (1.0,)
    assert METHODS["us_net"].space(space).depths == (1.0, 0.5)
    assert METHODS["multi_scale"].rule.trained(space).depths == (1.0,)
    assert METHODS["us_net"].space(space, depths=(1, 0.25)).depths == (1.0, 0.25)
