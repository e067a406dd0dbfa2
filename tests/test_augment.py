"""Random changes of train images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import nn
from torchvision.transforms import v2

from mutualnet.config.data import DataConfig
from mutualnet.data import load_data
from mutualnet.data.augment import Cutout, PerImage, learned_policy
from mutualnet.data.draws import Draws
from mutualnet.data.fast_autoaugment import _OPERATIONS
from mutualnet.training.mixup import mix_images
from tests.fixtures import write_folders, write_mosaics


def test_draws_go_on_and_are_each_images_own():
    keys = np.array([5, 9, 5], dtype=np.uint64)
    draws = Draws(keys)
    first, second = draws.uniform(3), draws.uniform()
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    assert not (first == second).any()
    assert torch.equal(Draws(keys).uniform(4)[:, 3:], second)
    whole = Draws(np.arange(5000, dtype=np.uint64)).whole(-2, 3)
    assert sorted(set(whole.flatten().tolist())) == [-2, -1, 0, 1, 2]


def test_cutout_blanks_one_square_that_may_hang_over():
    ones = torch.ones(2000, 3, 12, 12)
    cut = Cutout(side=4)(ones, Draws(np.arange(2000, dtype=np.uint64) * 7919))
    holes = (cut == 0).all(1)
    assert ((cut == 0) == holes[:, None]).all()
    areas = holes.sum((1, 2))
    assert areas.max() == 16
    assert areas.min() == 4  # a centre in the corner leaves a quarter inside
    for hole in holes[:50]:
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        assert hole.sum() == len(rows) * len(columns)
        assert len(rows) == rows[-1] - rows[0] + 1
    # A pixel in the middle is blanked by 16 of 144 centres.
    assert float(holes[:, 6, 6].float().mean()) == pytest.approx(16 / 144, abs=0.03)


def test_a_transform_of_single_images_goes_by_each_images_key():
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    change = PerImage(transform=learned_policy("autoaugment", "cifar10"))
    keys = np.array([1, 2, 3, 4], dtype=np.uint64)
    together = change(images, Draws(keys))
    assert together.dtype == torch.uint8
    alone = torch.cat([change(images[i : i + 1], Draws(keys[i : i + 1])) for i in (3, 2, 1, 0)])
    assert torch.equal(alone.flip(0), together)
    others = [change(images, Draws(keys + np.uint64(10 * n))) for n in range(1, 5)]
    assert any(not torch.equal(other, together) for other in others)


def test_unknown_policies_and_policies_for_digits_are_refused(tmp_path):
    write_mosaics(tmp_path / "c", 10, 2, 20)
    with pytest.raises(ValueError, match="policy must be one of none, autoaugment, fast"):
        load_data("cifar10", tmp_path / "c", resolution=32, policy="luck")
    with pytest.raises(ValueError, match="policy must be none for digits"):
        load_data("digits", resolution=16, policy="autoaugment")


@pytest.mark.parametrize("name", ["cifar10", "imagefolder"])
def test_data_sets_know_policies_and_cutout(name, tmp_path):
    (write_mosaics if name == "cifar10" else write_folders)(tmp_path / "d")
    plain = load_data(name, tmp_path / "d", resolution=32, select_share=0.34)
    rich = load_data(
        name,
        tmp_path / "d",
        resolution=32,
        select_share=0.34,
        policy="autoaugment",
        cutout=16,
    )
    keys = np.arange(8, dtype=np.uint64)
    images = torch.stack([image for image, _ in rich.train.fetch(range(8), keys)])
    again = torch.stack([image for image, _ in rich.train.fetch(range(8), keys)])
    assert torch.equal(images, again)
    blank = (images == 0).all(1).float().mean((1, 2))
    assert (blank > 0.05).all()
    test, same = plain.test[0][0], rich.test[0][0]
    assert torch.equal(test, same)


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
