"""Images held as arrays: batches, single images, and what they are cropped and scaled to."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from mutualnet.data import load_data
from mutualnet.data.arrays import ArrayTransform
from mutualnet.data.augment import CropFlip, Jiggle
from mutualnet.data.draws import Draws


def test_a_crop_flip_is_a_window_of_the_reflected_image_or_its_mirror():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 12, 12), dtype=torch.uint8)
    cropped = CropFlip(pad=4)(images, Draws.fresh(40))
    padded = F.pad(images.float(), [4] * 4, mode="reflect").byte()
    offsets, num_flipped = set(), 0
    for image, got in zip(padded, cropped, strict=True):
        windows = {
            (top, left): image[:, top : top + 12, left : left + 12]
            for top in range(9)
            for left in range(9)
        }
        found = [
            (*offset, flip)
            for offset, window in windows.items()
            for flip in (False, True)
            if torch.equal(window.flip(2) if flip else window, got)
        ]
        assert len(found) == 1
        offsets.add(found[0][:2])
        num_flipped += found[0][2]
    assert len(offsets) > 20
    assert 8 < num_flipped < 32


def test_a_jiggle_of_nothing_is_bilinear_resizing():
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    still = Jiggle(resolution=20, max_shift=0, max_degrees=0, max_scale=0)
    expected = F.interpolate(images.float(), (20, 20), mode="bilinear", align_corners=True)
    torch.testing.assert_close(still(images, Draws.fresh(3)), expected, rtol=1e-4, atol=1e-2)


def test_a_jiggle_moves_each_image_by_its_own_amount():
    torch.manual_seed(0)
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[..., 3:5, 3:5] = 255
    moved = Jiggle(resolution=8)(image.expand(16, 1, 8, 8), Draws.fresh(16))
    assert len({tuple(one.flatten().tolist()) for one in moved}) == 16
    assert (moved.sum((1, 2, 3)) > 300).all()


@pytest.mark.parametrize("resolution", [16, 32, 48])
def test_array_transform_normalises_at_any_resolution(resolution):
    grey = torch.full((2, 3, 32, 32), 51, dtype=torch.uint8)
    transform = ArrayTransform(resolution=resolution, mean=(0.1, 0.2, 0.3), std=(0.1, 0.5, 1.0))
    got = transform(grey)
    assert got.shape == (2, 3, resolution, resolution)
    torch.testing.assert_close(got[1, :, 0, -1], torch.tensor([1.0, 0.0, -0.1]))


def test_a_seeded_epoch_is_reproducible_and_differs_from_the_next():
    train = load_data("digits", resolution=8).train

    def epoch(seed):
        torch.manual_seed(seed)
        return torch.cat([x for x, _ in DataLoader(train, 64, shuffle=True)])

    assert torch.equal(epoch(0), epoch(0))
    assert not torch.equal(epoch(0), epoch(1))


def test_batches_and_single_images_agree_without_augmentation():
    splits = load_data("digits", resolution=16, augment="none")
    images, labels = next(iter(DataLoader(splits.train, 8)))
    assert labels.dtype == torch.int64
    for i in range(8):
        image, label = splits.train[i]
        assert label == labels[i]
        torch.testing.assert_close(image, images[i], rtol=0, atol=0)


def test_a_split_ends_like_a_list():
    test = load_data("digits", resolution=8).test
    assert len(list(test)) == len(test) == 450
    with pytest.raises(IndexError):
        test[len(test)]
