"""Files of one split that stand in another one too: the same content, whatever their names."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from mutualnet.messages import shorten

logger = logging.getLogger(__name__)

MOST_FILES = 100_000
"""Files to look at: of larger data sets only those of some classes are."""
_SAMPLE_BYTES = 4096


def warn_of_copies(
    root: str | os.PathLike[str],
    splits: Mapping[str, tuple[Sequence[str], Sequence[int]]],
    num_classes: int,
) -> None:
    """Count the select and test files that have the content of a train file, in a warning.

    Args:
        root: Folder that names are relative to, but for absolute ones.
        splits: Names and class numbers of the files of `train`, `select` and `test`.
        num_classes: K.
    """
    chosen = _some_classes([labels for _, labels in splits.values()], num_classes)
    files = {
        split: [
            os.path.join(root, name)  # noqa: PTH118 - a hundred thousand Path objects are slow
            for name, label in zip(*pair, strict=True)
            if chosen[label]
        ]
        for split, pair in splits.items()
    }
    train = files.pop("train")

    def name(path: str) -> str:
        return os.path.relpath(path, root)

    for split, others in files.items():
        if others == train:  # nothing is held out: the select files are train files
            continue
        copies = find_copies(train, others)
        if copies:
            looked = (
                "" if chosen.all() else f" of {chosen.sum()} classes, others were not looked at,"
            )
            logger.warning(
                "%d of %d %s files%s have the content of train files: %s. Scores on them say "
                "nothing about new images; remove them from one of the two.",
                len(copies),
                len(others),
                split,
                looked,
                shorten([f"{name(other)} ({name(first)})" for other, first in copies]),
            )


def find_copies(train: Sequence[str], others: Sequence[str]) -> list[tuple[str, str]]:
    """Files whose content is that of a train file, each with the first such train file.

    Few files are read as a whole: only those of equal sizes whose middles are equal.

    Args:
        train: Paths.
        others: Paths.
    """
    groups = [(train, others)]
    for read in (_size, _middle, _digest):
        groups = [pair for group in groups for pair in _equal(*group, read)]
    return sorted((other, same[0]) for same, found in groups for other in found)


def _equal(
    train: Sequence[str], others: Sequence[str], read: Callable[[str], Hashable]
) -> list[tuple[list[str], list[str]]]:
    """Parts of both in which `read` gives the same for all; what cannot be read is left out."""
    found, same = defaultdict(list), defaultdict(list)
    for path in others:
        found[_or_none(read, path)].append(path)
    for path in train:
        value = _or_none(read, path)
        if value is not None and value in found:
            same[value].append(path)
    return [(same[value], found[value]) for value in same]


def _or_none(read: Callable[[str], Hashable], path: str) -> Hashable:
    try:
        return read(path)
    except OSError:
        return None


def _size(path: str) -> int | None:
    return os.stat(path).st_size or None  # noqa: PTH116 - a hundred thousand Path objects are slow


def _middle(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        file.seek(max(0, os.fstat(file.fileno()).st_size - _SAMPLE_BYTES) // 2)
        return file.read(_SAMPLE_BYTES)


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").digest()


def _some_classes(labels: Sequence[Sequence[int]], num_classes: int) -> np.ndarray:
    """Which classes to look at (K): all, or always the same that hold about `MOST_FILES`."""
    counts = np.bincount(
        np.concatenate([np.asarray(numbers) for numbers in labels]), minlength=num_classes
    )
    if counts.sum() <= MOST_FILES:
        return np.ones(num_classes, dtype=bool)
    order = np.random.default_rng(0).permutation(num_classes)
    chosen = np.zeros(num_classes, dtype=bool)
    chosen[order[: max(1, int((counts[order].cumsum() <= MOST_FILES).sum()))]] = True
    return chosen
