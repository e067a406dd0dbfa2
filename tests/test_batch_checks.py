"""Batches that nothing can be learned from are refused by the steps, at once."""

from __future__ import annotations

import pytest
import torch

from mutualnet import ElasticSpace, Subnet, Supernet, batch_checks, sandwich_step
from mutualnet.batch_checks import BatchCheck
from mutualnet.peers import peer_step
from mutualnet.tasks import MultiLabel
from mutualnet.teaching import dml
from tests.tiny_peers import CLASSES, TASK, Tiny, tiny_batch

SUBNETS = (Subnet(resolution=8), Subnet(width_mult=0.5, resolution=8))


def sandwich(batch, task=TASK, **kwargs):
    net = Supernet(Tiny(1), ElasticSpace(width_range=(0.5, 1), resolutions=(8,)))
    return sandwich_step(net, batch, SUBNETS, task=task, **kwargs)


def peers(batch, task=TASK):
    return peer_step((Tiny(1), Tiny(2)), batch, dml(2), task=task)


def with_value(value):
    images, labels = tiny_batch()
    images[1, 0, 0, 0] = value
    return images, labels


def with_label(label, dtype=torch.int64):
    images, labels = tiny_batch()
    labels = labels.to(dtype)
    labels[2] = label
    return images, labels


@pytest.mark.parametrize("step", [sandwich, peers])
@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (with_value(float("nan")), ValueError, "finite numbers, got others in 1 of 6.*number 1"),
        (with_value(float("inf")), ValueError, "finite numbers, got others in 1 of 6.*number 1"),
        (tuple(part[:0] for part in tiny_batch()), ValueError, "at least one image, got none"),
        (with_label(CLASSES), ValueError, r"class numbers must lie in 0\.\.4, got 0\.\.5"),
        (with_label(-100), ValueError, r"class numbers must lie in 0\.\.4, got -100\.\."),
        (with_label(1, torch.float32), TypeError, r"must be int64, got torch\.float32"),
        (with_label(1, torch.int32), TypeError, r"must be int64, got torch\.int32"),
        ((tiny_batch()[0].byte(), tiny_batch()[1]), TypeError, "images must be floating point"),
        ((tiny_batch()[0], tiny_batch()[1][:4]), ValueError, r"got \(4,\)"),
        (
            (tiny_batch()[0], torch.ones(6, CLASSES, dtype=torch.int64)),
            TypeError,
            "probabilities of classes must be floats",
        ),
        (
            (tiny_batch()[0], torch.full((6, CLASSES), float("nan"))),
            ValueError,
            "probabilities of classes must be finite",
        ),
    ],
)
def test_batches_that_teach_nothing_are_refused(step, batch, error, message):
    with pytest.raises(error, match=message):
        step(batch)


@pytest.mark.parametrize("step", [sandwich, peers])
def test_targets_of_several_labels_are_checked(step):
    images, targets = tiny_batch()[0], torch.ones(6, CLASSES)
    step((images, targets), MultiLabel())
    with pytest.raises(ValueError, match=r"targets must lie in \[0, 1\]"):
        step((images, 2 * targets), MultiLabel())
    with pytest.raises(ValueError, match=r"targets must be \(6, 5\) as the outputs, got \(6, 4\)"):
        step((images, targets[:, 1:]), MultiLabel())


def test_huge_and_half_precision_images_are_finite():
    images, labels = tiny_batch()
    BatchCheck(Tiny(1), TASK, (torch.full_like(images, 3e38), labels))
    BatchCheck(Tiny(1), TASK, (torch.full_like(images, 6e4).half(), labels))


def test_on_an_accelerator_values_are_read_for_the_first_batches_alone(monkeypatch):
    read = []
    monkeypatch.setattr(batch_checks, "_is_finite", lambda images: read.append(1) or True)
    network, batch = Tiny(1), (torch.zeros(6, 3, 8, 8, device="meta"), None)
    for _ in range(20):
        BatchCheck(network, TASK, batch)
    assert len(read) == batch_checks.NUM_CHECKED
    BatchCheck(Tiny(2), TASK, batch)
    assert len(read) == batch_checks.NUM_CHECKED + 1


@pytest.mark.parametrize("side", [float("inf"), float("nan")])
def test_resolutions_are_finite(side):
    with pytest.raises(ValueError, match="resolution must be a whole number >= 1, got"):
        Subnet(resolution=side)
    with pytest.raises(ValueError, match="resolutions must be a finite number, got"):
        ElasticSpace(resolutions=(side, 32))


def test_widths_are_finite():
    with pytest.raises(ValueError, match="width_mult must be finite, got inf"):
        Subnet(width_mult=float("inf"))
    with pytest.raises(ValueError, match="width_range must be a finite number, got inf"):
        ElasticSpace(width_range=(0.5, float("inf")))
