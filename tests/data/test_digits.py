"""Scikit-learn's digits."""

from __future__ import annotations

import numpy as np
import torch

from mutualnet.data import load_data


def test_digits_come_in_three_disjoint_splits_that_cover_everything():
    splits = load_data("digits", resolution=16)
    parts = [set(part.positions.tolist()) for part in (splits.train, splits.select, splits.test)]
    assert set.union(*parts) == set(range(1797))
    assert sum(map(len, parts)) == 1797
    assert splits.num_classes == 10
    assert splits.class_names == tuple("0123456789")
    assert splits.in_channels == 1
    assert splits.calibration is splits.train
    image, label = splits.train[0]
    assert image.shape == (1, 16, 16)
    assert image.dtype == torch.float32
    assert isinstance(label, int)
    assert np.bincount(splits.select.labels).min() >= 13


def test_digits_are_normalised():
    x = torch.stack([image for image, _ in load_data("digits", resolution=8).test])
    assert abs(x.mean().item()) < 0.02
    assert abs(x.std().item() - 1) < 0.02


def test_the_test_split_does_not_depend_on_the_seed():
    first, second = (load_data("digits", resolution=8, seed=seed) for seed in (0, 1))
    assert torch.equal(first.test.positions, second.test.positions)
    assert not torch.equal(first.select.positions, second.select.positions)
    assert first.data_id != second.data_id
