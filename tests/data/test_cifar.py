"""Batched augmentation equals its plain, per-image counterpart; digits and CIFAR are whole."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image
from torch.utils.data import DataLoader

from mutualnet.data import load_data
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
