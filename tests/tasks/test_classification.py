"""Classification: scaling, losses and the score."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mutualnet.losses import distillation_loss
from mutualnet.space import Subnet
from mutualnet.tasks import Classification, Score
from mutualnet.tasks.scaling import ScaledBatch


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    return images, torch.arange(8) % 4


@pytest.fixture
def logits():
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


def test_scaling_interpolates_with_aligned_corners(batch):
    images, labels = Classification().scale(batch, Subnet(resolution=20))
    expected = F.interpolate(batch[0], (20, 20), mode="bilinear", align_corners=True)
    torch.testing.assert_close(images, expected, rtol=0, atol=0)
    torch.testing.assert_close(images[:, :, -1, -1], batch[0][:, :, -1, -1])
    assert labels is batch[1]


def test_scaling_to_the_same_size_passes_the_images_through(batch):
    assert Classification().scale(batch, Subnet(resolution=32))[0] is batch[0]


def test_the_network_is_called_with_the_images(batch):
    assert Classification().inputs(batch) is batch[0]
    assert Classification().inputs(list(batch)) is batch[0]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_supervised_loss_is_cross_entropy_by_hand(batch, logits, label_smoothing):
    target = F.one_hot(batch[1], 4) * (1 - label_smoothing) + label_smoothing / 4
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    task = Classification(label_smoothing=label_smoothing)
    torch.testing.assert_close(task.supervised_loss(logits, batch), expected)


def test_the_supervised_loss_takes_mixed_labels(batch, logits):
    mixed = (batch[0], F.one_hot(batch[1], 4).float())
    task = Classification()
    torch.testing.assert_close(
        task.supervised_loss(logits, mixed), task.supervised_loss(logits, batch)
    )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("is_mixed", [False, True])
def test_the_weight_of_a_class_counts_for_its_images_smoothing_included(
    batch, logits, label_smoothing, is_mixed
):
    weights = torch.tensor([0.5, 1.0, 2.0, 50.0])
    shares = F.one_hot(batch[1], 4).float()
    if is_mixed:
        shares = 0.7 * shares + 0.3 * shares.flip(0)
    target = shares * (1 - label_smoothing) + label_smoothing / 4
    losses = -(target * logits.log_softmax(1)).sum(1)
    expected = (losses * (shares * weights).sum(1)).mean()
    task = Classification(label_smoothing=label_smoothing, class_weights=tuple(weights.tolist()))
    labelled = (batch[0], shares if is_mixed else batch[1])
    torch.testing.assert_close(task.supervised_loss(logits, labelled), expected)


def test_no_image_is_taught_to_be_of_a_rare_class():
    labels = np.array([0] * 990 + [1] * 10)
    task = Classification().for_training(labels, 2, label_smoothing=0.1, is_balanced=True)
    taught = torch.tensor([[0.95, 0.05]]).log().requires_grad_()
    task.supervised_loss(taught, (None, torch.tensor([0]))).backward()
    torch.testing.assert_close(taught.grad, torch.zeros(1, 2), atol=1e-6, rtol=0)


def test_the_divergence_is_that_of_the_losses_and_moves_what_is_not_detached(logits):
    task = Classification()
    student, teacher = logits.clone().requires_grad_(), logits.flip(0).requires_grad_()
    loss = task.distill_loss(student, task.detach(teacher), 3.0)
    torch.testing.assert_close(loss, distillation_loss(student, teacher, 3.0), rtol=0, atol=0)
    loss.backward()
    assert student.grad is not None
    assert teacher.grad is None
    task.distill_loss(student, teacher).backward()
    assert teacher.grad is not None


def test_the_score_counts_over_uneven_batches():
    score = Classification().new_score()
    outputs = torch.eye(4)
    score.update(outputs, (torch.empty(4, 0), torch.tensor([0, 1, 2, 3])))
    score.update(outputs[:2], (torch.empty(2, 0), torch.tensor([1, 1])))
    assert score.compute() == Score(
        value=pytest.approx(100 * 5 / 6),
        standard_error=pytest.approx(100 * math.sqrt(5 / 6 * 1 / 6 / 6)),
        num_samples=6,
    )


@pytest.mark.parametrize("place", [slice(None), slice(0, 1), slice(3, 4)])
def test_an_image_with_a_logit_that_is_not_a_number_counts_as_wrong(place):
    logits, labels = torch.eye(4), torch.arange(4)
    logits[0, place] = float("nan")
    assert Classification().sample_scores(logits, (None, labels)).tolist() == [0, 100, 100, 100]


@pytest.mark.parametrize("labels", [torch.eye(4), torch.tensor([0]), torch.zeros(4, 1)])
def test_only_one_class_number_an_image_can_be_scored_by(labels):
    batch, logits = (torch.zeros(4, 3, 8, 8), labels), torch.eye(4)
    with pytest.raises(ValueError, match=r"must be class numbers \(4,\) to be scored by, got \("):
        Classification().new_score().update(logits, batch)
    with pytest.raises(ValueError, match="Probabilities of classes are for training alone"):
        Classification().sample_scores(logits, batch)


@pytest.mark.parametrize(("label", "value"), [(0, 100.0), (1, 0.0)])
def test_a_score_at_either_end_has_no_standard_error(label, value):
    score = Classification().new_score()
    score.update(torch.eye(4)[:1], (torch.empty(1, 0), torch.tensor([label])))
    assert score.compute() == Score(value=value, standard_error=0.0, num_samples=1)


def test_two_scores_are_independent(batch, logits):
    task = Classification()
    first, second = task.new_score(), task.new_score()
    first.update(logits, batch)
    with pytest.raises(ValueError, match="at least one sample, got none"):
        second.compute()


def test_scores_are_frozen():
    with pytest.raises(AttributeError):
        Score(value=1.0, standard_error=0.0, num_samples=1).value = 2.0


def test_outputs_that_are_not_logits_are_refused(batch, logits):
    task = Classification()
    with pytest.raises(TypeError, match=r"outputs must be one tensor of logits .* got tuple"):
        task.supervised_loss((logits, logits), batch)
    with pytest.raises(TypeError, match="got dict"):
        task.distill_loss({}, logits)


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.0])
def test_label_smoothing_outside_its_range_is_refused(label_smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\), got"):
        Classification(label_smoothing=label_smoothing)


def test_a_batch_moves_with_its_nesting_kept():
    tensor = torch.zeros(2)
    moved = Classification().batch_to([tensor, {"boxes": (tensor, "name")}, 3], "meta")
    assert moved[0].device.type == "meta"
    assert moved[1]["boxes"][0].device.type == "meta"
    assert moved[1]["boxes"][1] == "name"
    assert moved[2] == 3
    assert tensor.device.type == "cpu"


def test_a_named_tuple_stays_one():
    from typing import NamedTuple

    class Pair(NamedTuple):
        image: torch.Tensor
        label: int

    assert Classification().batch_to(Pair(torch.zeros(1), 1), "meta").image.device.type == "meta"


def test_a_batch_is_scaled_once_for_every_resolution():
    class Counting(Classification):
        def scale(self, batch, subnet):
            asked.append(subnet.resolution)
            return super().scale(batch, subnet)

    asked = []
    scaled = ScaledBatch(Counting(), (torch.randn(2, 3, 16, 16), torch.zeros(2).long()))
    for width in (1.0, 0.5):
        for resolution in (16, 8):
            images, _ = scaled.at(Subnet(width_mult=width, resolution=resolution))
            assert images.shape[-1] == resolution
    assert asked == [16, 8]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", [None, (0.5, 1.0, 4.0)])
def test_the_loss_of_guessing_is_that_of_equal_logits(label_smoothing, class_weights):
    """Of each image's loss, smoothing included, times the weight of its class."""
    labels = np.array([0, 1, 2, 2, 2, 1, 0, 0, 0, 0])
    losses = F.cross_entropy(
        torch.zeros(10, 3, dtype=torch.float64),
        torch.from_numpy(labels),
        label_smoothing=label_smoothing,
        reduction="none",
    )
    weights = torch.tensor(class_weights or (1.0, 1.0, 1.0), dtype=torch.float64)[labels]
    task = Classification(label_smoothing=label_smoothing, class_weights=class_weights)
    assert task.loss_of_guessing(labels, 3) == pytest.approx(float((losses * weights).mean()))
