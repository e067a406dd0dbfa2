"""Mixup and CutMix of a batch, with their labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mutualnet.config.data import DataConfig
from mutualnet.training.mixup import mix_images


@pytest.mark.parametrize("name", ["mixup_alpha", "cutmix_alpha"])
def test_mixed_images_carry_mixed_labels(name):
    torch.manual_seed(0)
    labels = torch.arange(8) % 4
    # Image i is its label everywhere, so its mean shows the shares it was mixed by.
    images = labels.view(8, 1, 1, 1).expand(8, 3, 16, 16).float()
    mixed, targets = mix_images(images, labels, DataConfig(name="digits", **{name: 1.0}), 4)
    assert targets.shape == (8, 4)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    torch.testing.assert_close(mixed.mean((1, 2, 3)), targets @ torch.arange(4.0))
    loss = nn.functional.cross_entropy(torch.zeros(8, 4), targets)
    assert float(loss) == pytest.approx(np.log(4))
    same, labels_again = mix_images(images, labels, DataConfig(name="digits"), 4)
    assert same is images
    assert labels_again is labels


def test_with_both_mixings_each_step_does_one_of_them():
    config = DataConfig(name="digits", mixup_alpha=1.0, cutmix_alpha=1.0)
    images, labels = torch.eye(4).view(4, 1, 2, 2).repeat(1, 1, 8, 8), torch.arange(4)
    kinds = set()
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, _ = mix_images(images, labels, config, 4)
        kinds.add(bool(((mixed == 0) | (mixed == 1)).all()))
    assert kinds == {True, False}
