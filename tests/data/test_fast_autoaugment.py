"""The published policies of Fast AutoAugment, and their operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import v2

from mutualnet.data.augment import learned_policy
from mutualnet.data.fast_autoaugment import _OPERATIONS


@pytest.mark.parametrize(("images", "count"), [("cifar10", 493), ("imagenet", 498)])
def test_fast_autoaugments_policies_are_whole(images, count):
    policy = learned_policy("fast_autoaugment", images)
    assert len(policy.sub_policies) == count
    for sub_policy in policy.sub_policies:
        assert len(sub_policy) == 2
        assert all(0 <= p <= 1 and 0 <= level <= 1 for _, p, level in sub_policy)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8))
    changed = policy(picture)
    assert (changed.size, changed.mode) == (picture.size, picture.mode)


@pytest.mark.parametrize("name", sorted(_OPERATIONS))
def test_every_operation_keeps_shape_and_type_and_does_something(name):
    torch.manual_seed(0)
    image = torch.randint(30, 200, (3, 24, 24), dtype=torch.uint8)
    low, high, has_sign, apply = _OPERATIONS[name]
    found = [apply(image, low + level * (high - low)) for level in (0.0, 0.2, 0.8, 1.0)]
    for one in found:
        assert one.shape == image.shape
        assert one.dtype == torch.uint8
    assert any(not torch.equal(one, image) for one in found)
    if has_sign:
        assert torch.equal(apply(image, 0.0), image)


def test_operations_do_what_pillows_do():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    image = v2.functional.pil_to_tensor(picture)
    pairs = {
        "Invert": (0.5, ImageOps.invert(picture)),
        "Solarize": (100.0, ImageOps.solarize(picture, 100)),
        "Posterize": (5.3, ImageOps.posterize(picture, 5)),
        "TranslateX": (
            0.25,
            picture.transform((20, 20), Image.Transform.AFFINE, (1, 0, -5, 0, 1, 0)),
        ),
        "ShearX": (0.3, picture.transform((20, 20), Image.Transform.AFFINE, (1, 0.3, 0, 0, 1, 0))),
    }
    for name, (value, expected) in pairs.items():
        found = _OPERATIONS[name][3](image, value)
        same = (found == v2.functional.pil_to_tensor(expected)).float().mean()
        assert same > 0.9, name
    bright = _OPERATIONS["Brightness"][3](image, 1.5).int()
    expected = v2.functional.pil_to_tensor(ImageEnhance.Brightness(picture).enhance(1.5)).int()
    assert (bright - expected).abs().max() <= 1
