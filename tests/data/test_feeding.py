"""Which images every step sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mutualnet.config.serialization import override
from mutualnet.data import load_data
from mutualnet.data.feeding import (
    KeyedImages,
    TrainBatches,
    calibration_loader,
    plain_loader,
    train_loader,
)
from mutualnet.data.splits import LabelledImages, SomeImages
from mutualnet.recipes import load_recipe
from mutualnet.seeding import Purpose
from mutualnet.training.setup import load_splits


class _Numbers(LabelledImages):
    """Images that are their index plus noise from every generator a transform may use."""

    labels = np.arange(45) % 3

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.rand(1) + float(np.random.rand())
        return index + noise.view(1, 1, 1), int(self.labels[index])


def _batches(**settings: object) -> list[list[tuple[int, int]]]:
    return list(TrainBatches(_Numbers.labels, 8, seed=3, **settings))  # type: ignore[arg-type]


def test_an_epoch_holds_every_image_once_and_the_next_has_another_order():
    batches = _batches(stop=12)
    assert TrainBatches(_Numbers.labels, 8, seed=3).steps_per_epoch == 6
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 8, 5] * 2
    first, second = batches[:6], batches[6:]
    for epoch, part in enumerate((first, second)):
        assert {e for batch in part for e, _, _ in batch} == {epoch}
        assert sorted(i for batch in part for _, i, _ in batch) == list(range(45))
    assert [i for b in first for _, i, _ in b] != [i for b in second for _, i, _ in b]


@pytest.mark.parametrize("start", [1, 5, 6, 9, 12])
def test_a_run_that_goes_on_sees_what_was_left(start):
    assert _batches(start=start, stop=12) == _batches(stop=12)[start:]


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_processes_share_every_batch_of_one(num_ranks):
    alone = _batches(stop=10)
    shared = [_batches(stop=10, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    for step, batch in enumerate(alone[:5]):
        parts = [part[step] for part in shared]
        assert [place for part in parts for place in part] == batch
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    sizes = TrainBatches(_Numbers.labels, 8, seed=3)
    assert [sizes.size_of(step) for step in range(7)] == [8, 8, 8, 8, 8, 5, 8]


def test_a_last_batch_too_small_for_every_piece_is_left_out():
    assert TrainBatches(_Numbers.labels, 8, seed=0, accumulate=3).steps_per_epoch == 5
    assert TrainBatches(np.zeros(17), 8, seed=0).steps_per_epoch == 2
    with pytest.raises(ValueError, match="must have at least 8 images, two for each of 4 proc"):
        TrainBatches(np.zeros(100), 6, seed=0, num_ranks=4)


def test_balanced_draws_show_rare_classes_as_often_as_others():
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    batches = TrainBatches(labels, 100, seed=0, balanced=True, stop=30)
    places = [place for batch in batches for place in batch]
    drawn = labels[[index for _, index, _ in places]]
    assert np.bincount(drawn) / len(drawn) == pytest.approx([1 / 3] * 3, abs=0.03)
    assert len({(epoch, number) for epoch, _, number in places}) == len(places)


def _images(num_workers: int, seed: int = 0) -> list[Tensor]:
    batches = TrainBatches(_Numbers.labels, 8, seed=seed, stop=8)
    return [images for images, _ in train_loader(_Numbers(), batches, num_workers=num_workers)]


def test_augmentation_depends_on_seed_epoch_and_image_alone():
    torch.manual_seed(1)
    alone = _images(0)
    torch.manual_seed(2)
    for other in (_images(0), _images(2)):
        assert all(torch.equal(a, b) for a, b in zip(alone, other, strict=True))
    assert not torch.equal(alone[0], _images(0, seed=1)[0])
    keyed = KeyedImages(_Numbers(), 0, Purpose.AUGMENT)
    (here, _), (there, _) = keyed.__getitems__([(0, 7, 7), (0, 9, 9)])
    assert torch.equal(keyed.__getitems__([(0, 7, 7)])[0][0], here)
    assert not torch.equal(keyed.__getitems__([(1, 7, 7)])[0][0], here)
    assert not torch.equal(here - 7, there - 9)


def test_whole_batch_augmentation_is_each_images_own_too():
    train = load_data("digits", resolution=16).train
    keyed = KeyedImages(train, 0, Purpose.AUGMENT)
    together = [image for image, _ in keyed.__getitems__([(2, i, i) for i in range(6)])]
    backwards = [image for image, _ in keyed.__getitems__([(2, i, i) for i in (5, 4, 3)])]
    for image, same in zip(together[3:], reversed(backwards), strict=True):
        torch.testing.assert_close(image, same, rtol=0, atol=1e-6)


def test_calibration_is_shared_out_by_whole_batches():
    train = load_data("digits", resolution=8).train

    def load(**ranks: int) -> list[Tensor]:
        loader = calibration_loader(train, 32, num_samples=200, seed=0, num_workers=0, **ranks)
        return [images for images, _ in loader]

    alone = load()
    assert [len(batch) for batch in alone] == [32] * 6
    shared = [load(rank=rank, num_ranks=2) for rank in (0, 1)]
    for number, batch in enumerate(alone):
        assert torch.equal(batch, shared[number % 2][number // 2])


def test_a_plain_loader_gives_a_split_once_in_its_order():
    test = load_data("digits", resolution=8).test
    labels = torch.cat([labels for _, labels in plain_loader(test, 50, num_workers=0)])
    assert labels.tolist() == test.labels.tolist()


def test_a_part_of_a_split_is_its_images_by_their_places():
    train = load_data("digits", resolution=8).train
    part = SomeImages(train, np.array([7, 3, 11]))
    assert part.labels.tolist() == train.labels[[7, 3, 11]].tolist()
    keys = np.array([1, 2], dtype=np.uint64)
    for (a, _), (b, _) in zip(part.fetch([2, 0], keys), train.fetch([11, 7], keys), strict=True):
        assert torch.equal(a, b)
    assert part[1][1] == train.labels[3]


def test_a_share_of_the_train_images_is_stratified_and_has_its_own_hash():
    recipe = load_recipe("digits_demo")
    whole = load_splits(recipe)
    part = load_splits(override(recipe, ["data.train_share=0.25"]))
    counts, all_counts = np.bincount(part.train.labels), np.bincount(whole.train.labels)
    assert counts / all_counts == pytest.approx([0.25] * 10, abs=0.01)
    assert part.data_id != whole.data_id
    assert len(part.test) == len(whole.test)
