"""Images in, classes out: what PyTorch says, by any configuration and from any thread."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mutualnet import Subnet
from mutualnet.data import photo_transform
from mutualnet.runtime import AdaptiveRunner, measure, with_latencies
from tests.small_artifact import SUBNETS, picture


def test_inputs_are_the_tensors_of_evaluation(artifact):
    runner = AdaptiveRunner(artifact)
    chain = photo_transform("cifar10", 32)
    for size in [(48, 40), (31, 77), (32, 32)]:
        image = picture(0, size)
        found, expected = runner.inputs(image), chain(Image.fromarray(image))
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_files_pil_images_and_arrays_are_the_same(artifact, tmp_path):
    runner, image = AdaptiveRunner(artifact), picture()
    Image.fromarray(image).save(tmp_path / "a.png")
    found = runner.run([str(tmp_path / "a.png"), tmp_path / "a.png", image, Image.fromarray(image)])
    assert len(found) == 4
    assert len({prediction.probabilities for prediction in found}) == 1


def test_batches_change_nothing(artifact):
    images = [picture(seed) for seed in range(7)]
    alone = [AdaptiveRunner(artifact).run(image)[0] for image in images]
    for batch_size in (1, 3, 7, 100):
        found = AdaptiveRunner(artifact, batch_size=batch_size).run(images)
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)
    assert AdaptiveRunner(artifact).run([]) == []


def test_a_budget_chooses_by_the_table(artifact):
    runner = AdaptiveRunner(artifact)
    rows = sorted(artifact.table.rows, key=lambda row: row.macs)
    for row in rows:
        assert runner.choose(f"{row.macs / 1e6:.9f}M") == row.subnet
    assert runner.choose() == rows[-1].subnet
    assert runner.run(picture(), f"{rows[0].macs / 1e6:.9f}M")[0].subnet == rows[0].subnet
    with pytest.raises(ValueError, match="no sub-network has macs"):
        runner.choose("1K")
    with pytest.raises(ValueError, match=r"the artifact must hold 0.3x32, got 0.25x24"):
        runner.choose(Subnet(width_mult=0.3, resolution=32))
    with pytest.raises(ValueError, match="a budget needs a unit"):
        runner.choose("5")


def test_latencies_of_pytorch_are_not_taken_for_the_devices(artifact):
    with pytest.raises(ValueError, match=r"needs measured latencies.* mutualnet measure "):
        AdaptiveRunner(artifact).choose("5ms")
    elsewhere = replace(artifact, path=Path("/my models/m.mutualnet"))
    with pytest.raises(ValueError, match=r"mutualnet measure '/my models/m.mutualnet'$"):
        AdaptiveRunner(elsewhere).choose("5ms")


def test_a_budget_of_time_goes_by_what_was_measured(artifact):
    found = measure(artifact, runs=5)
    table = with_latencies(artifact, found, threads=1, batch_size=1, runs=5)
    runner = AdaptiveRunner(artifact.__class__(**{**_fields(artifact), "table": table}))
    slowest = max(row.latency_ms for row in table.rows)
    assert runner.choose(f"{slowest * 1.01:.6f}ms") == table.top.subnet


def _fields(artifact):
    return {name: getattr(artifact, name) for name in ("path", "manifest", "table", "folder")}


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("nothing.png", ValueError, "there is no image file nothing.png"),
        (np.zeros((4, 4)), TypeError, "must hold pixels uint8"),
        (np.zeros((4, 4, 7), np.uint8), ValueError, "must be one image"),
        (np.zeros((4, 4, 2), np.uint8), ValueError, r"must be one image .*got \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), TypeError, "must hold pixels uint8"),
        (3, TypeError, "must be a file, a PIL image or an array, got int"),
    ],
    ids=["no file", "floats", "seven channels", "two channels", "no pixels", "a number"],
)
def test_what_is_no_image_is_named(artifact, image, error, message):
    with pytest.raises(error, match=message):
        AdaptiveRunner(artifact).run([image])


def test_a_grey_image_may_have_a_dimension_of_one_channel(artifact):
    grey = picture()[:, :, 0]
    runner = AdaptiveRunner(artifact)
    assert runner.run(grey[:, :, None]) == runner.run(grey)


def test_a_broken_file_is_named(artifact, tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"b\.jpg must be an image that can be read"):
        AdaptiveRunner(artifact).run(tmp_path / "b.jpg")


def test_a_pil_image_of_a_file_that_is_cut_off_is_named(artifact, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "b.png")
    content = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: len(content) // 2])
    with (
        Image.open(tmp_path / "b.png") as image,
        pytest.raises(ValueError, match=r"a PIL image must have all its pixels, got .*truncated"),
    ):
        AdaptiveRunner(artifact).run(image)


@pytest.mark.parametrize("budget", [8, 8.0, True, False, 0, b"8ms"])
def test_a_budget_is_no_number(artifact, budget):
    with pytest.raises(TypeError, match=r"must be a text with its unit \('150M', '8ms'\)"):
        AdaptiveRunner(artifact).choose(budget)


def test_no_images_have_no_logits(artifact):
    inputs = np.zeros((0, *artifact.manifest.input_shape), np.float32)
    assert AdaptiveRunner(artifact).logits(inputs, SUBNETS[0]).shape == (0, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": 0}, "threads must be >= 1"),
        ({"max_loaded": 0}, "max_loaded must be >= 1"),
        ({"max_bytes": 0}, "max_bytes must be >= 1"),
        ({"batch_size": 0}, "batch_size must be >= 1"),
    ],
)
def test_settings_are_checked(artifact, arguments, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveRunner(artifact, **arguments)


def test_threads_share_a_runner(artifact):
    runner, images = AdaptiveRunner(artifact, max_loaded=1), [picture(s) for s in range(4)]
    expected = {s: AdaptiveRunner(artifact).run(images, s) for s in SUBNETS}
    wrong: list[object] = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(25):
            subnet, place = SUBNETS[rng.integers(4)], rng.integers(4)
            (found,) = runner.run(images[place], subnet)
            if not np.allclose(
                found.probabilities, expected[subnet][place].probabilities, atol=1e-6
            ):
                wrong.append((subnet, place))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_running_imports_no_torch(artifact_file, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    code = (
        "import sys\n"
        "from mutualnet.runtime import AdaptiveRunner\n"
        f"print(AdaptiveRunner({str(artifact_file)!r}).run({str(tmp_path / 'a.png')!r}))\n"
        "bad = {'torch', 'torchvision', 'timm', 'onnx', 'rich'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.startswith("[Prediction(")
