"""Action recognition: frames of a clip, its size, and what several views of it say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mutualnet import ElasticSpace, Subnet, Supernet, calibrate, sandwich_step
from mutualnet.cost import CostModel
from mutualnet.data.clip_transforms import frame_transform
from mutualnet.evaluation import evaluate
from mutualnet.methods import METHODS
from mutualnet.models import X3D, SlowFast
from mutualnet.tasks import ActionRecognition, Classification, SlowFastActionRecognition
from mutualnet.tasks.action_recognition import frame_indices, mean_over_views, scale_clips
from mutualnet.tasks.classification import scale_images

TASK = ActionRecognition()


def small_x3d(num_classes=3):
    torch.manual_seed(0)
    model = X3D(num_classes=num_classes, depths=(1, 1), channels=(8, 16), dropout=0.0)
    for block in model.modules():  # blocks begin as identity, which would hide their frames
        if isinstance(block, nn.BatchNorm3d):
            nn.init.ones_(block.weight)
    return model


@pytest.mark.parametrize(
    ("num_frames", "wanted", "expected"),
    [
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (8, 5, [0, 2, 4, 5, 7]),
        (8, 3, [1, 4, 6]),
        (8, 4, [1, 3, 5, 7]),
        (4, 3, [0, 2, 3]),
        (4, 2, [1, 3]),
        (16, 13, [0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15]),
        (16, 6, [1, 4, 6, 9, 12, 14]),
        (5, 1, [2]),
    ],
)
def test_frames_are_spread_evenly(num_frames, wanted, expected):
    assert frame_indices(num_frames, wanted) == expected


@pytest.mark.parametrize("num_frames", [1, 3, 7, 16, 32])
def test_frames_rise_within_the_clip_and_lie_alike_from_both_ends(num_frames):
    for wanted in range(1, num_frames + 1):
        found = frame_indices(num_frames, wanted)
        steps = np.diff(found)
        assert len(found) == wanted
        assert found[0] >= 0
        assert found[-1] < num_frames
        if wanted > 1:
            assert steps.min() >= 1
            assert steps.max() - steps.min() <= 1


def test_more_frames_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"see 1 to 8 frames.* got 9.*clips.num_frames"):
        frame_indices(8, 9)


def test_a_scaled_clip_has_the_chosen_frames_each_resized():
    clips = torch.randn(2, 3, 8, 20, 20)
    scaled = scale_clips(clips, Subnet(resolution=12, num_frames=3))
    assert scaled.shape == (2, 3, 3, 12, 12)
    for place, number in enumerate((1, 4, 6)):
        expected = scale_images(clips[:, :, number], 12)
        torch.testing.assert_close(scaled[:, :, place], expected, rtol=1e-5, atol=1e-6)
    views = scale_clips(clips[None], Subnet(resolution=12, num_frames=3))
    torch.testing.assert_close(views, scaled[None], rtol=0, atol=0)
    batch = (clips, torch.tensor([0, 1]))
    torch.testing.assert_close(
        TASK.scale(batch, Subnet(resolution=12, num_frames=3))[0], scaled, rtol=0, atol=0
    )


@pytest.mark.parametrize("num_frames", [None, 8])
def test_the_largest_sees_the_clip_itself(num_frames):
    clips, labels = torch.randn(2, 3, 8, 20, 20), torch.tensor([0, 1])
    scaled, same = TASK.scale((clips, labels), Subnet(resolution=20, num_frames=num_frames))
    assert scaled.data_ptr() == clips.data_ptr()
    assert scaled.shape == clips.shape
    assert same is labels


def test_only_the_slow_pathway_of_a_pair_is_scaled():
    task = SlowFastActionRecognition(alpha=4)
    clips, labels = torch.randn(2, 3, 16, 20, 20), torch.tensor([0, 1])
    (slow, fast), _ = task.scale((clips, labels), Subnet(resolution=20, num_frames=4))
    assert fast is clips
    torch.testing.assert_close(slow, clips[:, :, ::4], rtol=0, atol=0)
    scaled = task.scale((clips, labels), Subnet(resolution=12, num_frames=2))
    (slow, fast), _ = scaled
    assert fast is clips
    torch.testing.assert_close(slow[:, :, 0], scale_images(clips[:, :, 4], 12))
    torch.testing.assert_close(slow[:, :, 1], scale_images(clips[:, :, 12], 12))
    assert [tuple(x.shape) for x in task.inputs(scaled)] == [(2, 3, 2, 12, 12), (2, 3, 16, 20, 20)]
    with pytest.raises(ValueError, match="see 1 to 4 frames"):
        task.scale((clips, labels), Subnet(resolution=12, num_frames=5))


def test_a_pair_of_clips_is_what_slowfast_makes_of_one():
    torch.manual_seed(0)
    model = SlowFast(num_classes=3, alpha=4).eval()
    task = SlowFastActionRecognition(alpha=4)
    batch = torch.randn(2, 3, 8, 32, 32), torch.tensor([0, 1])
    with torch.inference_mode():
        pair = task.run(model, task.scale(batch, Subnet(resolution=32, num_frames=2)))
        torch.testing.assert_close(pair, model(batch[0]), rtol=0, atol=0)
    other = SlowFastActionRecognition()
    with pytest.raises(ValueError, match=r"must be the network's, 4, got 8.*\(alpha=4\)"):
        other.run(model, other.scale(batch, Subnet(resolution=32, num_frames=1)))


@pytest.mark.parametrize("task", [TASK, SlowFastActionRecognition(alpha=4)])
def test_one_image_is_no_clip(task):
    with pytest.raises(ValueError, match="are seen in videos, got one image"):
        task.one_image(Image.new("RGB", (8, 8)), frame_transform(8))


@pytest.mark.parametrize("task", [TASK, SlowFastActionRecognition(alpha=4)])
def test_probabilities_of_views_are_averaged(task):
    torch.manual_seed(0)
    model = SlowFast(num_classes=3, alpha=4) if task is not TASK else small_x3d()
    model.eval()
    clips, labels = torch.randn(2, 5, 3, 8, 32, 32), torch.tensor([0, 1])
    batch = task.scale((clips, labels), Subnet(resolution=32, num_frames=2))
    with torch.inference_mode():
        outputs = task.run(model, batch)
        alone = [
            task.run(model, task.scale((clips[:, v], labels), Subnet(resolution=32, num_frames=2)))
            for v in range(5)
        ]
    expected = torch.stack([logits.softmax(1) for logits in alone]).mean(0)
    assert outputs.shape == (2, 3)
    torch.testing.assert_close(task.probabilities(outputs), expected)
    assert task.num_samples(batch) == 2


def test_the_mean_of_equal_views_is_each_of_them():
    logits = torch.randn(4, 7)
    same = mean_over_views(logits.repeat_interleave(3, 0), 3)
    torch.testing.assert_close(same, logits.log_softmax(1))
    assert mean_over_views(logits.bfloat16(), 2).dtype == torch.float32


def test_confident_views_do_not_become_infinite():
    logits = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    torch.testing.assert_close(mean_over_views(logits, 2).exp(), torch.tensor([[0.5, 0.5]]))


def test_it_scores_and_learns_as_classification_does():
    outputs, batch = torch.randn(4, 3), (None, torch.tensor([0, 1, 2, 0]))
    plain = Classification(label_smoothing=0.1)
    task = ActionRecognition(label_smoothing=0.1)
    assert task.supervised_loss(outputs, batch) == plain.supervised_loss(outputs, batch)
    assert task.score_name == plain.score_name
    weighted = task.for_training(np.array([0, 0, 1]), 2, label_smoothing=0.2, is_balanced=True)
    assert isinstance(weighted, ActionRecognition)
    assert (weighted.label_smoothing, weighted.class_weights) == (0.2, (0.75, 1.5))


SPACE = ElasticSpace(width_range=(0.5, 1.0), resolutions=(32, 24), frames=(4, 2), width_step=0.5)


def moving(count, seed=0):
    """Clips whose brightness rises or falls: no single frame tells which."""
    rng = np.random.default_rng(seed)
    labels = torch.as_tensor(rng.integers(0, 2, count))
    ramp = torch.linspace(-1, 1, 4).view(1, 1, 4, 1, 1)
    sign = (2 * labels - 1).view(-1, 1, 1, 1, 1)
    clips = sign * ramp + torch.as_tensor(rng.normal(size=(count, 1, 1, 1, 1)))
    return clips.expand(count, 3, 4, 32, 32).float().contiguous(), labels


def test_every_sub_network_learns_what_only_several_frames_tell():
    torch.manual_seed(0)
    net = Supernet(small_x3d(2), SPACE)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    for step in range(40):
        optimizer.zero_grad()
        draws = METHODS["mutualnet"].draw(SPACE, rng)
        sandwich_step(net, moving(16, step), draws, task=TASK)
        optimizer.step()
    batches = [moving(32, 1000 + n) for n in range(4)]
    calibrate(net, batches, SPACE.grid(), task=TASK, data_id="ramps", num_samples=128)
    scores = evaluate(net, batches, SPACE.grid(), task=TASK)
    assert len(SPACE.grid()) == 8
    assert min(score.value for score in scores.values()) > 90


def test_frames_cost_in_proportion():
    costs = CostModel(Supernet(small_x3d(), SPACE))
    four, two = (costs.macs(Subnet(resolution=32, num_frames=n)) for n in (4, 2))
    assert two < four
    classifier = costs.macs(Subnet(resolution=32, num_frames=4)) - 2 * (four - two)
    assert 0 < classifier < 0.2 * four
