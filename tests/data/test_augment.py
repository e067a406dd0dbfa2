"""Random changes of train images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mutualnet.data import load_data
from mutualnet.data.augment import Cutout, PerImage, learned_policy
from mutualnet.data.draws import Draws
from tests.fixtures import write_folders, write_mosaics


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
