"""Which images every step of a training run sees, and how they reach it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mutualnet.data.splits import LabelledImages
from mutualnet.seeding import Purpose, generator, sample_keys

_FEW = 32
"""Images that `first_batch` reads at most."""

Place = tuple[int, int, int]
"""An epoch, the index of an image, and what tells its augmentation from others of the epoch."""


class TrainBatches(Sampler[list[Place]]):
    """The batches of a run from one step to another, decided by the seed alone.

    Every epoch goes through all images once, in an order of its own. With several processes each
    gets its share of every batch, so that together they see what one would.

    Args:
        labels: (N) class numbers of the images.
        batch_size: Images of a step, over all processes.
        seed: Of the run.
        stop: Step to end before.
        start: Step to begin with, to resume an interrupted run.
        rank: Index of this process.
        num_ranks: Processes.
        accumulate: Micro-batches that each process cuts its share of a batch into; a last batch
            too small to give each of them two images, which BN needs, is left out.
        balanced: Draw with replacement, every class equally often.

    Raises:
        ValueError: If there are too few images for one batch.
    """

    def __init__(
        self,
        labels: np.ndarray,
        batch_size: int,
        *,
        seed: int,
        stop: int | None = None,
        start: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        accumulate: int = 1,
        balanced: bool = False,
    ) -> None:
        self.batch_size = batch_size
        self.rank, self.num_ranks = rank, num_ranks
        self.seed = seed
        self._num_images = len(labels)
        least = 2 * num_ranks * accumulate
        if min(batch_size, len(labels)) < least:
            raise ValueError(
                f"a batch must have at least {least} images, two for each of {num_ranks} processes "
                f"and {accumulate} micro-batches, got {min(batch_size, len(labels))}. Raise "
                "data.batch_size."
            )
        whole, rest = divmod(len(labels), batch_size)
        self.steps_per_epoch = whole + (rest >= least)
        self.start = start
        self.stop = self.steps_per_epoch if stop is None else stop
        self._shares: np.ndarray | None = None
        if balanced:
            weight = 1 / np.bincount(labels)[labels]
            self._shares = weight / weight.sum()

    def size_of(self, step: int) -> int:
        """Images of a step, over all processes."""
        first = step % self.steps_per_epoch * self.batch_size
        return min(self.batch_size, self._num_images - first)

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[Place]]:
        order, epoch = np.zeros(0, dtype=np.int64), -1
        for step in range(self.start, self.stop):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = self._order(epoch)
            first = step % self.steps_per_epoch * self.batch_size
            batch = order[first : first + self.batch_size]
            mine = np.array_split(batch, self.num_ranks)[self.rank]
            begin = first + sum(map(len, np.array_split(batch, self.num_ranks)[: self.rank]))
            yield [
                # An image that comes twice in an epoch must not look the same twice.
                (epoch, int(index), begin + number if self._shares is not None else int(index))
                for number, index in enumerate(mine)
            ]

    def _order(self, epoch: int) -> np.ndarray:
        rng = generator(self.seed, Purpose.ORDER, epoch)
        if self._shares is None:
            return rng.permutation(self._num_images)
        return rng.choice(self._num_images, self._num_images, p=self._shares)


class KeyedImages(Dataset[Any]):
    """Images by their places, augmented by random numbers of the seed and the place alone.

    Args:
        images: One split.
        seed: Of the run.
        purpose: Another purpose augments otherwise.
    """

    def __init__(self, images: LabelledImages, seed: int, purpose: Purpose) -> None:
        self.images = images
        self.seed = seed
        self.purpose = purpose

    def __getitems__(self, places: Sequence[Place]) -> list[Any]:
        """The images of one batch, all of one epoch."""
        epochs, indices, numbers = zip(*places, strict=True)
        keys = sample_keys(self.seed, self.purpose, epochs[0], np.array(numbers))
        return self.images.fetch(indices, keys)


def train_loader(
    images: LabelledImages, batches: TrainBatches, *, num_workers: int
) -> DataLoader[Any]:
    """Feed the steps of a run; what they see does not depend on the number of workers.

    Args:
        images: The train split.
        batches: Which images each step sees.
        num_workers: Processes that load images; 0 loads in this one.
    """
    keyed = KeyedImages(images, batches.seed, Purpose.AUGMENT)
    return _loader(keyed, images, num_workers, batch_sampler=batches)


def calibration_loader(
    images: LabelledImages,
    batch_size: int,
    *,
    num_samples: int,
    seed: int,
    num_workers: int,
    rank: int = 0,
    num_ranks: int = 1,
) -> DataLoader[Any]:
    """Feed whole batches of augmented train images in an order of the seed; each process its own.

    Args:
        images: The train split.
        batch_size: Images of a batch, in one process.
        num_samples: Images over all processes, in whole batches; at least one.
        seed: Of the run.
        num_workers: Processes that load images; 0 loads in this one.
        rank: Number of this process, which takes every `num_ranks`-th batch.
        num_ranks: Processes.
    """
    order = generator(seed, Purpose.CALIBRATION, 0).permutation(len(images))
    size = min(batch_size, len(images))
    count = min(max(1, num_samples // size), len(images) // size)
    batches = [
        [(0, int(index), int(index)) for index in order[number * size : (number + 1) * size]]
        for number in range(rank, count, num_ranks)
    ]
    keyed = KeyedImages(images, seed, Purpose.CALIBRATION)
    return _loader(keyed, images, num_workers, batch_sampler=batches)


def first_batch(images: LabelledImages, size: int, *, seed: int) -> Any:
    """The first images of a split as a batch, augmented by the seed, to try a network on.

    Generators of random numbers change.

    Args:
        images: The train split.
        size: Images of the batch; after a few the same ones come again.
        seed: Of the run.
    """
    count = min(size, len(images), _FEW)
    keys = sample_keys(seed, Purpose.CALIBRATION, 0, np.arange(count))
    items = images.fetch(range(count), keys)
    return images.collate([items[number % count] for number in range(size)])


def plain_loader(images: LabelledImages, batch_size: int, *, num_workers: int) -> DataLoader[Any]:
    """Feed a split once, in its own order.

    Args:
        images: The select or test split.
        batch_size: Images of a batch.
        num_workers: Processes that load images; 0 loads in this one.
    """
    return _loader(images, images, num_workers, batch_size=batch_size)


def part_loader(
    images: LabelledImages, batch_size: int, start: int, stop: int, *, seed: int, num_workers: int
) -> DataLoader[Any]:
    """Feed a part of a split, unaugmented; parts that follow each other are of one random order.

    Args:
        images: The select split.
        batch_size: Images of a batch.
        start: Place of the first image in an order of the seed.
        stop: Place to end before.
        seed: Of the run.
        num_workers: Processes that load images; 0 loads in this one.
    """
    order = generator(seed, Purpose.RACE, 0).permutation(len(images))[start:stop].tolist()
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    return _loader(images, images, num_workers, batch_sampler=batches)


def _loader(
    data: Dataset[Any], images: LabelledImages, num_workers: int, **batches: Any
) -> DataLoader[Any]:
    return DataLoader(
        data,
        num_workers=num_workers,
        collate_fn=images.collate,
        worker_init_fn=_one_thread,
        pin_memory=torch.cuda.is_available(),
        # The seeds that it hands to workers are never used; without this it would draw them from
        # the generator that models use.
        generator=torch.Generator(),
        **batches,
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
