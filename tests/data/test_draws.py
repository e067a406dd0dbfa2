"""Random numbers of each image, whatever batch it comes in."""

from __future__ import annotations

import numpy as np
import torch

from mutualnet.data.draws import Draws


def test_draws_go_on_and_are_each_images_own():
    keys = np.array([5, 9, 5], dtype=np.uint64)
    draws = Draws(keys)
    first, second = draws.uniform(3), draws.uniform()
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    assert not (first == second).any()
    assert torch.equal(Draws(keys).uniform(4)[:, 3:], second)
    whole = Draws(np.arange(5000, dtype=np.uint64)).whole(-2, 3)
    assert sorted(set(whole.flatten().tolist())) == [-2, -1, 0, 1, 2]
