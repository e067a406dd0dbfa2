"""Batched augmentation equals its plain, per-image counterpart; digits and CIFAR are whole."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.datasets
from PIL import Image
from torch.utils.data import DataLoader

from mutualnet.data import load_data
from mutualnet.data.arrays import ArrayTransform
from mutualnet.data.augment import CropFlip, Jiggle
from mutualnet.data.draws import Draws
from tests.fixtures import write_mosaics


@pytest.fixture
def mosaics(tmp_path):
    return tmp_path / "cifar10", write_mosaics(tmp_path / "cifar10")


def make_file(path):
    path.touch()
    return path


def normalise(tiles, splits):
    x = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(splits.mean), torch.tensor(splits.std)
    return (x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


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


def test_digits_come_in_three_disjoint_splits_that_cover_everything():
    splits = load_data("digits", resolution=16)
    parts = [set(part.positions.tolist()) for part in (splits.train, splits.select, splits.test)]
    assert set.union(*parts) == set(range(1797))
    assert sum(map(len, parts)) == 1797
    assert splits.num_classes == 10
    assert splits.class_names == tuple("0123456789")
    assert splits.in_channels == 1
    assert splits.calibration is splits.train
    image, label = splits.train[0]
    assert image.shape == (1, 16, 16)
    assert image.dtype == torch.float32
    assert isinstance(label, int)
    assert np.bincount(splits.select.labels).min() >= 13


def test_digits_are_normalised():
    x = torch.stack([image for image, _ in load_data("digits", resolution=8).test])
    assert abs(x.mean().item()) < 0.02
    assert abs(x.std().item() - 1) < 0.02


def test_the_test_split_does_not_depend_on_the_seed():
    first, second = (load_data("digits", resolution=8, seed=seed) for seed in (0, 1))
    assert torch.equal(first.test.positions, second.test.positions)
    assert not torch.equal(first.select.positions, second.select.positions)
    assert first.data_id != second.data_id


def test_the_same_seed_gives_the_same_splits_and_hash():
    first, second = (load_data("digits", resolution=size, seed=3) for size in (8, 16))
    assert torch.equal(first.select.positions, second.select.positions)
    assert first.data_id == second.data_id
    assert len(first.data_id) == 16


def test_the_hash_of_a_division_is_the_same_everywhere():
    assert load_data("digits", resolution=8).data_id == "b3e29092b79e318c"


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


def test_mosaic_tiles_are_read_row_by_row(mosaics):
    path, arrays = mosaics
    splits = load_data("cifar10", path, resolution=32, augment="none")
    assert (len(splits.train), len(splits.select), len(splits.test)) == (140, 20, 80)
    tiles, labels = arrays["test"]
    got = list(splits.test)
    assert [label for _, label in got] == labels.tolist()
    torch.testing.assert_close(torch.stack([x for x, _ in got]), normalise(tiles, splits))
    tiles, labels = arrays["train"]
    order = splits.train.positions.tolist()
    got = splits.train.__getitems__(range(len(order)))
    assert [label for _, label in got] == labels[order].tolist()
    torch.testing.assert_close(torch.stack([x for x, _ in got]), normalise(tiles[order], splits))


def test_every_class_gives_its_share_to_select(mosaics):
    splits = load_data("cifar10", mosaics[0], resolution=32, select_share=0.25)
    assert np.bincount(splits.select.labels).tolist() == [4] * 10
    assert not set(splits.select.positions.tolist()) & set(splits.train.positions.tolist())


def test_train_images_are_augmented_and_the_others_are_not(mosaics):
    splits = load_data("cifar10", mosaics[0], resolution=32)
    torch.manual_seed(0)
    assert not torch.equal(splits.train[0][0], splits.train[0][0])
    for part in (splits.select, splits.test):
        assert torch.equal(part[0][0], part[0][0])


def test_the_folder_above_the_mosaics_will_do(mosaics):
    above = load_data("cifar10", str(mosaics[0].parent), resolution=32)
    assert above.data_id == load_data("cifar10", mosaics[0], resolution=32).data_id


@pytest.mark.parametrize("resolution", [32, 64])
def test_eval_transform_of_a_test_image_is_the_test_item(mosaics, resolution):
    path, arrays = mosaics
    splits = load_data("cifar10", path, resolution=resolution)
    got = splits.eval_transform(Image.fromarray(arrays["test"][0][5]))
    torch.testing.assert_close(got, splits.test[5][0], rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (640, 480)])
def test_eval_transform_takes_any_photo(mode, size):
    splits = load_data("digits", resolution=12)
    got = splits.eval_transform(Image.new(mode, size))
    assert got.shape == (1, 12, 12)
    assert got.isfinite().all()


def test_torchvisions_layout_is_read_too(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        data = rng.integers(0, 256, (40, 3072), dtype=np.uint8)
        content = {"data": data, "labels": [i % 10 for i in range(40)]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    reader = torchvision.datasets.CIFAR10
    with pytest.raises(ValueError, match="cifar-10-batches-py must be the official files, but"):
        load_data("cifar10", tmp_path, resolution=32)
    monkeypatch.setattr(reader, "train_list", [["one", None]])
    monkeypatch.setattr(reader, "test_list", [["two", None]])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": None})
    for path in (tmp_path, folder):
        splits = load_data("cifar10", path, resolution=32, augment="none")
        assert (len(splits.train), len(splits.select), len(splits.test)) == (30, 10, 40)
        assert splits.class_names == tuple("abcdefghij")
        expected = normalise(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), splits)
        torch.testing.assert_close(splits.test[7][0], expected[7])


def test_a_download_is_torchvisions_and_its_failure_is_told(tmp_path, monkeypatch):
    def fail(self):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", fail)
    with pytest.raises(ValueError, match=r"could not be downloaded to .*: no network"):
        load_data("cifar100", tmp_path, resolution=32, download=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, r"got no path. With download=True torchvision fetches"),
        (lambda p: p, r"as torchvision stores it \(cifar-10-batches-py/\) or as mosaics .*neither"),
        (lambda p: p / "nowhere", "nowhere, which is not there"),
        (lambda p: make_file(p / "f"), "which is a file"),
    ],
)
def test_a_path_without_cifar_names_both_layouts(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        load_data("cifar10", make(tmp_path), resolution=32)


def test_damaged_mosaics_are_refused(mosaics):
    path, _ = mosaics
    load = lambda: load_data("cifar10", path, resolution=32)  # noqa: E731
    whole = (path / "train_01.png").read_bytes()
    (path / "train_01.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"mosaic .*train_01.png must be a whole image, got"):
        load()
    (path / "train_01.png").unlink()
    with pytest.raises(ValueError, match=r"labels of shape \(160,\) for 80 tiles in 1 mosaics"):
        load()
    Image.new("RGB", (64, 40)).save(path / "train_01.png")
    with pytest.raises(ValueError, match="must be of whole 32x32 tiles, got 64x40"):
        load()
    (path / "train_01.png").write_bytes(whole)
    np.save(path / "test_labels.npy", np.full(80, 10))
    with pytest.raises(ValueError, match=r"test labels must be in 0..9, got 10..10"):
        load()
    (path / "test_labels.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"test_labels.npy must be an array of labels"):
        load()
    (path / "test_labels.npy").unlink()
    with pytest.raises(ValueError, match=r"must hold test_labels.npy beside its mosaics"):
        load()
    (path / "classes.json").write_text("[1]")
    with pytest.raises(ValueError, match='must be JSON with a list "classes"'):
        load()


def test_the_other_cifar_is_refused(mosaics):
    with pytest.raises(ValueError, match="cifar100 must have 100 classes, got 10"):
        load_data("cifar100", mosaics[0], resolution=32)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cifar", {}, r"one of cifar10, cifar100, coco, .*, got 'cifar'. Did you mean"),
        ("digits", {"resolution": 0}, "resolution must be a whole number of pixels >= 1, got 0"),
        ("digits", {"resolution": 8.5}, "resolution must be a whole number of pixels"),
        ("digits", {"path": "x"}, "path must be None for digits"),
        ("digits", {"augment": "wide_crop"}, "augment must be one of standard, none, got"),
        ("digits", {"select_share": -0.1}, r"select_share must be in \[0, 1\), got -0.1"),
        ("digits", {"select_share": 1}, r"select_share must be in \[0, 1\), got 1"),
        ("digits", {"download": True}, "digits has no option 'download'. Its options: none"),
        ("imagefolder", {"x": 1}, "no option 'x'. Its options: max_damaged_share"),
        ("imagefolder", {"augment": "much"}, "augment must be one of standard, wide_crop, none"),
    ],
)
def test_impossible_arguments_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_data(name, **{"resolution": 8, **arguments})


def test_the_shared_cifar_mosaics_are_complete(shared_data):
    splits = load_data("cifar10", shared_data / "cifar10", resolution=32)
    assert (len(splits.train), len(splits.select), len(splits.test)) == (45000, 5000, 10000)
    assert splits.class_names[0] == "airplane"
    pixels = splits.train.images.double() / 255
    known = torch.tensor([0.49140, 0.48216, 0.44653], dtype=torch.double)
    torch.testing.assert_close(pixels.mean((0, 2, 3)), known, rtol=0, atol=2e-4)
    images, labels = next(iter(DataLoader(splits.train, 256, shuffle=True)))
    assert images.shape == (256, 3, 32, 32)
    assert abs(images.mean().item()) < 0.2
    assert set(labels.tolist()) == set(range(10))
