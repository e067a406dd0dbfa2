"""Labels that are wrong on purpose."""

from __future__ import annotations

import torch.nn.functional as F

from mutualnet.data.noise import NoisyLabels
from mutualnet.training.setup import load_splits, set_up_training
from tests.small_runs import pair


def test_a_share_of_the_labels_is_wrong_by_the_seed():
    clean = load_splits(pair())
    noisy = load_splits(pair("data.label_noise=0.3"))
    assert isinstance(noisy.train, NoisyLabels)
    differs = noisy.train.labels != clean.train.labels
    assert differs.sum() == round(0.3 * len(differs))
    assert (noisy.test.labels == clean.test.labels).all()
    assert (noisy.select.labels == clean.select.labels).all()
    assert noisy.data_id != clean.data_id
    again = load_splits(pair("data.label_noise=0.3"))
    assert (again.train.labels == noisy.train.labels).all()
    other = load_splits(pair("data.label_noise=0.3", "seed=1"))
    assert other.data_id != noisy.data_id
    index = int(noisy.train.corrupted[0])
    image, label = noisy.train[index]
    assert label == noisy.train.labels[index] != clean.train.labels[index]
    assert image.shape == (1, 12, 12)
    # Wrong classes are spread over all others.
    shifts = (noisy.train.labels - clean.train.labels)[differs] % 10
    assert set(shifts) == set(range(1, 10))
    setup = set_up_training(pair("data.label_noise=0.3"))
    assert F.one_hot(next(iter(setup.loader()))[1], 10).shape == (32, 10)
