"""Random numbers as functions of a place."""

from __future__ import annotations

import numpy as np
import pytest

from mutualnet.seeding import Purpose, generator, sample_keys, seed_of, uniforms


def _splitmix64(state: int) -> int:
    """One output of SplitMix64 by Python's own whole numbers."""
    mask = 2**64 - 1
    x = (state + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_uniforms_are_those_of_splitmix64():
    keys = np.array([0, 1, 2**63 + 12345], dtype=np.uint64)
    got = uniforms(keys, 0, 4)
    for row, key in zip(got, keys.tolist(), strict=True):
        state = key
        for value in row:
            assert value == (_splitmix64(state) >> 11) / 2**53
            state = (state + 0x9E3779B97F4A7C15) % 2**64
    # The published first output for seed 0.
    assert _splitmix64(0) == 0xE220A8397B1DCDAF
    assert np.array_equal(uniforms(keys, 1, 3), got[:, 1:])


def test_uniforms_are_even_and_unrelated():
    numbers = uniforms(sample_keys(0, Purpose.AUGMENT, 3, np.arange(20_000)), 0, 4)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert numbers.mean(0) == pytest.approx([0.5] * 4, abs=0.01)
    assert numbers.var(0) == pytest.approx([1 / 12] * 4, abs=0.005)
    assert np.abs(np.corrcoef(numbers.T) - np.eye(4)).max() < 0.03


def test_a_place_decides_and_every_part_of_it_matters():
    def first(*place: int) -> float:
        return generator(*place[:1], Purpose(place[1]), *place[2:]).random()

    assert first(0, 1, 2) == first(0, 1, 2)
    assert len({first(0, 1, 2), first(1, 1, 2), first(0, 2, 2), first(0, 1, 3)}) == 4
    keys = sample_keys(0, Purpose.ORDER, 0, np.arange(1000))
    assert len(set(keys.tolist())) == 1000
    assert np.array_equal(keys[5:9], sample_keys(0, Purpose.ORDER, 0, np.arange(5, 9)))
    assert not np.intersect1d(keys, sample_keys(0, Purpose.ORDER, 1, np.arange(1000))).size
    assert 0 <= seed_of(0, Purpose.STEP, 7) < 2**63
    assert seed_of(0, Purpose.STEP, 7) != seed_of(0, Purpose.STEP, 8)
