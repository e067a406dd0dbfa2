"""A data set divided, the same way everywhere."""

from __future__ import annotations

import torch

from mutualnet.data import load_data


def test_the_same_seed_gives_the_same_splits_and_hash():
    first, second = (load_data("digits", resolution=size, seed=3) for size in (8, 16))
    assert torch.equal(first.select.positions, second.select.positions)
    assert first.data_id == second.data_id
    assert len(first.data_id) == 16


def test_the_hash_of_a_division_is_the_same_everywhere():
    assert load_data("digits", resolution=8).data_id == "b3e29092b79e318c"
