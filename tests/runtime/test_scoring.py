"""Scores on a device: those of PyTorch on the same images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mutualnet import evaluate
from mutualnet.runtime import AdaptiveRunner, Artifact, read_labelled, score_images
from mutualnet.runtime.scoring import mean_average_precision
from mutualnet.tasks import MultiLabel
from mutualnet.tasks.classification import Classification
from tests.small_artifact import NAMES, SUBNETS, picture, small_artifact, small_info


@pytest.fixture
def folder(tmp_path):
    """Five images of each class, of many sizes."""
    for label, name in enumerate(NAMES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            seed = 5 * label + number
            image = Image.fromarray(picture(seed, (30 + seed, 70 - seed)))
            image.save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


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


@pytest.mark.parametrize("names", [("test", "val"), ("Test", "train"), ("VAL", "train")])
def test_splits_are_found_and_test_comes_first(artifact, folder, tmp_path, names):
    place = tmp_path / "data"
    for name in names:
        (place / name).mkdir(parents=True)
    folder.rename(place / names[0] / "inner")
    for path in (place / names[0] / "inner").iterdir():
        path.rename(place / names[0] / path.name)
    (place / names[0] / "inner").rmdir()
    (place / names[1] / "other").mkdir()
    data = read_labelled(place, artifact.manifest)
    assert data.place == str(place / names[0])
    assert len(data) == 50


def test_a_class_may_be_called_test(artifact, tmp_path):
    from dataclasses import replace

    manifest = replace(artifact.manifest, class_names=("test", "train"))
    for name in manifest.class_names:
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(picture()).save(tmp_path / "data" / name / "a.png")
    assert read_labelled(tmp_path / "data", manifest).labels.tolist() == [0, 1]


def test_a_class_may_be_without_images(artifact, folder):
    for path in (folder / "c").iterdir():
        path.unlink()
    data = read_labelled(folder, artifact.manifest)
    assert data.empty_classes == ("c",)
    assert len(data) == 45


def test_folders_of_other_classes_are_refused(artifact, folder):
    (folder / "c").rename(folder / "cc")
    with pytest.raises(ValueError, match=r"10 classes .* without 'c' and with 'cc' besides"):
        read_labelled(folder, artifact.manifest)
    (folder / "cc").rename(folder / "c")
    for path in folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="must hold images, got none in any class"):
        read_labelled(folder, artifact.manifest)


IMAGES = np.zeros((4, 6, 6, 3), np.uint8)
LABELS = np.zeros(4, np.int64)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "has no labels"),
        ({"labels": LABELS}, "has no images"),
        ({"images": IMAGES / 255, "labels": LABELS}, r"must be pixels uint8 .* got float64"),
        ({"images": IMAGES[..., :2], "labels": LABELS}, r"got uint8 \(4, 6, 6, 2\)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"got uint8 \(0, 6, 6, 3\)"),
        ({"images": IMAGES, "labels": LABELS[:3]}, r"of shape \(4,\), got int64 \(3,\)"),
        ({"images": IMAGES, "labels": LABELS + 0.5}, r"got float64 \(4,\)"),
        ({"images": IMAGES, "labels": LABELS + 10}, r"class numbers 0..9 .* got 10 to 10"),
        ({"images": IMAGES, "labels": LABELS - 1}, r"got -1 to -1"),
        ({"images": IMAGES, "labels": np.array([None] * 4)}, "allow_pickle=False"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(artifact, tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_labelled(tmp_path / "a.npz", artifact.manifest)


def test_what_is_no_data_is_refused(artifact, tmp_path):
    for content in (b"nothing", b"PK\x03\x04 broken", b"\x93NUMPY\x01\x00"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a.npz must be an .npz that can be read: "):
            read_labelled(tmp_path / "a.npz", artifact.manifest)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"a folder or an .npz file, got .*a.txt, which is neith"):
        read_labelled(tmp_path / "a.txt", artifact.manifest)
    with pytest.raises(ValueError, match="got nothing at"):
        read_labelled(tmp_path / "b.npz", artifact.manifest)


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
