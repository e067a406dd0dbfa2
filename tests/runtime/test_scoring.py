"""Scores on a device: those of PyTorch on the same images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from mutualnet import evaluate
from mutualnet.runtime import AdaptiveRunner, Artifact, read_labelled, score_images
from mutualnet.runtime.scoring import mean_average_precision
from mutualnet.tasks import MultiLabel
from mutualnet.tasks.classification import Classification
from tests.small_artifact import NAMES, SUBNETS, picture, small_artifact, small_info


@pytest.mark.parametrize("batch_size", [16, 7])
def test_scores_are_those_of_evaluate_in_pytorch(net, artifact, folder, batch_size):
    data = read_labelled(folder, artifact.manifest)
    assert len(data) == 50
    runner = AdaptiveRunner(artifact, threads=1, batch_size=batch_size, max_loaded=2)
    found = score_images(runner, data, SUBNETS)
    prepare = small_info().preprocessing
    images = torch.stack([prepare(Image.open(path)) for path in data.images])
    batch = (images, torch.from_numpy(data.labels))
    expected = evaluate(net, [batch], SUBNETS, task=Classification())
    assert found.damaged == ()
    assert len({score.value for score in expected.values()}) > 1
    for subnet in SUBNETS:
        assert found.by_subnet[subnet].num_samples == 50
        assert found.by_subnet[subnet].value == pytest.approx(expected[subnet].value, abs=1e-9)
        error = expected[subnet].standard_error
        assert found.by_subnet[subnet].standard_error == pytest.approx(error, abs=1e-9)


def test_a_logit_that_is_not_a_number_is_a_wrong_answer(artifact, folder, monkeypatch):
    data, runner = read_labelled(folder, artifact.manifest), AdaptiveRunner(artifact, threads=1)
    monkeypatch.setattr(runner, "logits", lambda batch, _: np.full((len(batch), 10), np.nan))
    found = score_images(runner, data, SUBNETS[:1])
    assert 0 in data.labels  # the class that argmax takes of such rows
    assert found.by_subnet[SUBNETS[0]].value == 0


def test_each_image_is_decoded_once_and_in_parts(artifact, folder, monkeypatch):
    monkeypatch.setattr("mutualnet.runtime.scoring._MOST_AT_ONCE", 20)
    runner, asked, counted = AdaptiveRunner(artifact, threads=1), [], []
    inner = runner.inputs
    monkeypatch.setattr(runner, "inputs", lambda image: asked.append(image) or inner(image))
    data = read_labelled(folder, artifact.manifest)
    whole = score_images(AdaptiveRunner(artifact, threads=1), data, SUBNETS)
    assert score_images(runner, data, SUBNETS, advance=counted.append) == whole
    assert asked == data.images
    assert counted == [20, 20, 10]


def test_arrays_score_as_the_files_do(artifact, folder, tmp_path):
    data = read_labelled(folder, artifact.manifest)
    images = np.stack([picture(seed) for seed in range(12)])
    labels = np.arange(12, dtype=np.uint8) % 10
    np.savez_compressed(tmp_path / "some.npz", images=images, labels=labels)
    for seed, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / NAMES[label] / f"x{seed}.png")
    for path in data.images:
        path.unlink()
    runner = AdaptiveRunner(artifact, threads=1)
    arrays, files = (
        score_images(runner, read_labelled(place, artifact.manifest), SUBNETS).by_subnet
        for place in (tmp_path / "some.npz", folder)
    )
    assert arrays == files


def test_grey_arrays_are_taken(artifact, tmp_path):
    np.savez(tmp_path / "grey.npz", images=picture(0)[None, :, :, 0], labels=np.array([3]))
    data = read_labelled(tmp_path / "grey.npz", artifact.manifest)
    found = score_images(AdaptiveRunner(artifact, threads=1), data, SUBNETS[:1])
    assert found.by_subnet[SUBNETS[0]].num_samples == 1


def test_a_damaged_image_is_named_and_left_out(artifact, folder):
    (folder / "b" / "2.png").write_text("no image")
    runner, lines = AdaptiveRunner(artifact, threads=1), []
    data = read_labelled(folder, artifact.manifest)
    found = score_images(runner, data, SUBNETS, complain=lines.append)
    assert list(found.damaged) == lines
    assert len(lines) == 1
    assert str(folder / "b" / "2.png") in lines[0]
    assert all(score.num_samples == 49 for score in found.by_subnet.values())
    for path in data.images:
        path.write_text("no image")
    with pytest.raises(ValueError, match="needs images that can be read, got none in"):
        score_images(runner, data, SUBNETS)


@pytest.fixture
def labels_artifact(tmp_path, net, monkeypatch):
    """The artifact of a task with several labels."""
    monkeypatch.setattr(
        "tests.small_artifact.small_info", lambda: small_info("multilabel"), raising=True
    )
    return Artifact.open(small_artifact(tmp_path, net))


def _several(count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.random.default_rng(0).random((count, len(NAMES))) < 0.3
    labels[:, 4] = False  # a label that no image carries
    return np.stack([picture(seed) for seed in range(count)]), labels


def test_several_labels_score_as_in_pytorch(net, labels_artifact, tmp_path):
    images, labels = _several(40)
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    data = read_labelled(tmp_path / "a.npz", labels_artifact.manifest)
    found = score_images(AdaptiveRunner(labels_artifact, threads=1), data, SUBNETS).by_subnet
    prepare = small_info().preprocessing
    batch = torch.stack([prepare(Image.fromarray(image)) for image in images])
    targets = torch.from_numpy(labels.astype(np.float32))
    expected = evaluate(net, [(batch, targets)], SUBNETS, task=MultiLabel())
    assert len({score.value for score in expected.values()}) > 1
    for subnet in SUBNETS:
        # The task's curves are in float32.
        assert found[subnet].value == pytest.approx(expected[subnet].value, abs=1e-3)


@pytest.mark.parametrize("digits", [7, 1])
def test_average_precision_is_the_tasks(digits):
    """In the task's own arithmetic but in float64, also where many logits are equal."""
    rng = np.random.default_rng(1)
    logits = (6 * rng.standard_normal((300, 8))).round(digits).astype(np.float32)
    labels = rng.random((300, 8)) < 0.2
    labels[:, 3] = False
    score = MultiLabel().new_score()
    torch.set_default_dtype(torch.float64)
    try:
        score.update(torch.from_numpy(logits), (None, torch.from_numpy(labels)))
        expected = score.compute()
    finally:
        torch.set_default_dtype(torch.float32)
    found = mean_average_precision(logits, labels)
    assert found.value == pytest.approx(expected.value, abs=1e-9)
    assert found.num_samples == 300
    # Other resamples of the same images.
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.4)


@pytest.mark.parametrize(("factor", "shift"), [(1, 0), (30, 0), (1, 20), (0.25, -200)])
def test_mean_average_precision_goes_by_the_order_of_logits_alone(factor, shift):
    """Of numbers that stay apart in single precision, some of them equal."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (200, 2))
    logits = np.round((labels - 0.5 + rng.normal(size=(200, 2))) * 64).astype(np.float32) / 64
    each = [average_precision_score(labels[:, k], logits[:, k]) for k in range(2)]
    moved = (factor * logits + shift).astype(np.float32)
    assert mean_average_precision(moved, labels).value == pytest.approx(100 * np.mean(each))
    score = MultiLabel().new_score()
    score.update(torch.from_numpy(moved), (None, torch.from_numpy(labels)))
    assert score.compute().value == pytest.approx(100 * np.mean(each), abs=1e-4)


def test_logits_that_are_not_a_number_come_last_in_average_precision():
    labels = np.array([[1], [0], [1], [0], [1]])
    logits = np.array([[np.inf], [-5], [np.nan], [-np.inf], [-7]], dtype=np.float32)
    expected = 100 * (1 + 2 / 3 + 3 / 5) / 3  # the last two tie
    assert mean_average_precision(logits, labels).value == pytest.approx(expected)
    score = MultiLabel().new_score()
    score.update(torch.from_numpy(logits), (None, torch.from_numpy(labels)))
    assert score.compute().value == pytest.approx(expected, abs=1e-4)


def test_labels_that_do_not_fit_are_refused(labels_artifact, folder, tmp_path):
    manifest = labels_artifact.manifest
    with pytest.raises(ValueError, match=r"several labels. Give an .npz .* \(N, 10\) of zeros"):
        read_labelled(folder, manifest)
    images, labels = _several(4)
    for wrong, message in (
        (labels[:, :9], r"shape \(4, 10\), got bool \(4, 9\)"),
        (labels * 2, "got 0 to 2"),
        (labels * 0.5, "got others"),
        (np.where(labels, np.nan, 0), "got others"),
    ):
        np.savez(tmp_path / "a.npz", images=images, labels=wrong)
        with pytest.raises(ValueError, match=message):
            read_labelled(tmp_path / "a.npz", manifest)
    with pytest.raises(ValueError, match="needs images that carry labels, got none"):
        mean_average_precision(np.zeros((2, 2), np.float32), np.zeros((2, 2)))
