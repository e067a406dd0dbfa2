"""What a device makes of an image is what evaluation made of it, without PyTorch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import v2

from mutualnet.data import photo_transform
from mutualnet.image_steps import CenterCrop, ImageSteps, ResizeShortSide, resize_array

SIDES = [(5, 5), (32, 20), (20, 32), (224, 160), (160, 224), (7, 1), (1, 7), (33, 32)]


@pytest.mark.parametrize(("before", "after"), SIDES)
@pytest.mark.parametrize(
    ("align_corners", "antialias"), [(True, False), (False, True), (False, False)]
)
def test_resizing_follows_the_rules_of_pytorch(before, after, align_corners, antialias):
    images = torch.randn(2, 3, before, before + 3, generator=torch.Generator().manual_seed(0))
    # In float64: the float32 rule rounds its places to 7e-5 of a pixel's range.
    expected = F.interpolate(
        images.double(),
        (after, after),
        mode="bilinear",
        align_corners=align_corners,
        antialias=antialias,
    )
    found = resize_array(images.numpy(), after, align_corners, antialias)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=3e-6)


@pytest.mark.parametrize("name", ["imagefolder", "cifar10", "digits", "coco"])
@pytest.mark.parametrize("size", [(300, 200), (97, 141), (32, 32), (11, 40)])
@pytest.mark.parametrize("resolution", [32, 24])
def test_arrays_equal_the_tensors_of_evaluation(name, size, resolution):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    chain = photo_transform(name, 32)
    expected = chain(image, resolution)
    found = ImageSteps.from_values(_plain(chain.to_values()))(image, resolution)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def _plain(values):
    return [{k: list(v) if isinstance(v, tuple) else v for k, v in step.items()} for step in values]


@pytest.mark.parametrize("size", [(300, 200), (97, 141), (31, 64), (64, 31), (32, 32)])
def test_pillow_steps_are_those_of_torchvision(size):
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    found, expected = ResizeShortSide(size=31)(image), v2.functional.resize(image, [31])
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    for side in (20, 33, 80):
        found, expected = CenterCrop(size=side)(image), v2.functional.center_crop(image, [side])
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"step": "resize_short_side", "size": 0}, "size of resize_short_side must be a whole"),
        ({"step": "resize_short_side", "size": 1e9}, "size of resize_short_side must be a whole"),
        ({"step": "center_crop", "size": True}, "size of center_crop must be a whole"),
        ({"step": "normalize", "mean": [0.5], "std": [0.0]}, "std of normalize must be finite"),
        ({"step": "normalize", "mean": ["a"], "std": [1.0]}, "mean of normalize must be finite"),
        ({"step": "normalize", "mean": [0.5]}, "is not whole"),
        ({"step": "decode", "mode": "CMYK"}, "mode of decode must be RGB or L"),
        (
            {"step": "resize", "size": 8, "align_corners": True, "antialias": True},
            "cannot average and align corners",
        ),
        (
            {"step": "resize_central_square", "size": 8, "interpolation": "nearest"},
            "interpolation of resize_central_square must be bilinear",
        ),
    ],
)
def test_steps_that_cannot_be_taken_are_refused_when_read(step, message):
    with pytest.raises(ValueError, match=message):
        ImageSteps.from_values([step, {"step": "resize_to_configuration"}])


def test_neither_torch_nor_torchvision_is_imported():
    code = (
        "import sys, mutualnet.image_steps; "
        "bad = {'torch', 'torchvision'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
