"""Identities of channels: what is united, what is fixed, and what a reshape does to them."""

from __future__ import annotations

import numpy as np
import pytest

from mutualnet.supernet.channel_ids import (
    ChannelIds,
    MisalignedError,
    axes_of,
    compress,
    reshape_ids,
)


def test_united_channels_are_known_by_one_number():
    ids = ChannelIds()
    a, b, c = ids.new(4), ids.new(4), ids.new(4)
    ids.unite(a, b)
    ids.unite(b[:2], c[2:])
    assert np.array_equal(ids.find(a), ids.find(b))
    assert np.array_equal(ids.find(c[2:]), ids.find(a[:2]))
    assert len(np.unique(ids.find(np.concatenate([a, b, c])))) == 6


def test_what_is_fixed_fixes_all_that_is_united_with_it_with_the_first_reason():
    ids = ChannelIds()
    a, b, c = ids.new(2), ids.new(2), ids.new(2)
    ids.unite(a, b)
    ids.freeze(a[:1], "the first")
    ids.freeze(b[:1], "the second")
    ids.unite(c[1:], b[:1])
    assert ids.is_fixed(b).tolist() == [True, False]
    assert ids.is_fixed(c).tolist() == [False, True]
    assert ids.reason(int(c[1])) == ids.reason(int(b[0])) == "the first"
    assert ids.units(b).tolist() == [-1, ids.find(a)[1]]


def test_ties_leave_one_of_each_row():
    ids = ChannelIds()
    grid = ids.new(6).reshape(2, 3)
    left = ids.tie(grid, [1])
    assert left.shape == (2, 1)
    assert (ids.find(grid) == ids.find(left)).all()
    assert len(np.unique(ids.find(grid))) == 2


def test_a_narrower_network_may_say_nothing_new_but_of_what_it_made_itself():
    ids = ChannelIds()
    a, b, fixed = ids.new(2), ids.new(2), ids.new_fixed(2, "why")
    ids.known = len(ids)
    with pytest.raises(MisalignedError):
        ids.unite(a, b)
    with pytest.raises(MisalignedError):
        ids.freeze(a, "why")
    ids.unite(fixed[:1], fixed[1:])  # all of these stay in any case
    padding = ids.new(2)
    ids.unite(padding, a)
    assert np.array_equal(ids.find(padding), ids.find(a))


def test_ids_grow_without_limit():
    ids = ChannelIds()
    many = ids.new(10_000)
    more = ids.new(10_000)
    ids.unite(many, more)
    assert len(ids) == 20_000
    assert np.array_equal(ids.find(more), many)


SHAPES = [
    ((2, 6, 4, 4), (2, 96)),
    ((2, 96), (2, 6, 4, 4)),
    ((2, 6, 4, 4), (2, 2, 3, 4, 4)),
    ((2, 2, 3, 5), (4, 3, 5)),
    ((4, 3, 5), (2, 2, 3, 5)),
    ((2, 6), (2, 6, 1, 1)),
    ((2, 6, 1, 1), (12,)),
    ((2, 3, 4), (4, 6)),
    ((1, 6, 1), (6,)),
]


@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_a_reshape_of_ids_is_the_reshape_of_a_tensor_that_holds_them(old, new):
    for held in range(1, 2 ** len(old)):
        shape = [size if held >> d & 1 else 1 for d, size in enumerate(old)]
        ids = np.arange(int(np.prod(shape))).reshape(shape)
        slow = np.broadcast_to(ids, old).reshape(new)
        found = reshape_ids(ids, old, new)
        assert np.array_equal(np.broadcast_to(found, new), slow), (shape, new)
        assert found.shape == compress(slow).shape or held != 2 ** len(old) - 1


def test_axes_are_the_dimensions_that_hold_channels():
    assert axes_of(np.zeros((1, 3, 1, 2))) == (1, 3)
    repeated = np.broadcast_to(np.arange(3)[None, :, None], (4, 3, 5))
    assert compress(repeated).shape == (1, 3, 1)
