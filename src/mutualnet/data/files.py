"""Lists of files with their classes, and the three splits made of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mutualnet.data.copies import warn_of_copies
from mutualnet.data.splits import (
    DataSplits,
    LabelledImages,
    SplitSettings,
    hash_data,
    stratified_split,
)
from mutualnet.distributed import current_ranks
from mutualnet.selection import Selection


def is_regular_file(path: Path) -> bool:
    """Whether a file lies there that can be read to its end; under no impossible name there does.

    Args:
        path: What a table or list names.
    """
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises where a name is too long


class Files(NamedTuple):
    """Names relative to the data set's folder, and their class numbers."""

    names: list[str]
    labels: list[int]

    def take(self, positions: np.ndarray) -> Files:
        """Those at some positions."""
        return Files([self.names[i] for i in positions], [self.labels[i] for i in positions])


class ListedFiles(NamedTuple):
    """The files of a data set, divided."""

    root: Path
    """Folder that the files' names are relative to."""
    splits: dict[str, Files]
    """Files of `train`, `select` and `test`."""
    class_names: Sequence[str]
    """Name of each class number."""
    selection: Selection
    """What the select files are."""


def hold_out(
    files: Files, share: float, seed: int, purpose: str, class_names: Sequence[str]
) -> tuple[Files, Files]:
    """Hold a share of every class out; see `stratified_split`."""
    kept, held_out = stratified_split(
        files.labels,
        share,
        seed=seed,
        purpose=purpose,
        class_names=class_names,
        keys=files.names,
    )
    return files.take(kept), files.take(held_out)


def hold_out_select(
    files: Files, settings: SplitSettings, class_names: Sequence[str]
) -> tuple[Files, Files]:
    """Train and select files; see `SplitSettings.hold_out_select`."""
    kept, chosen = settings.hold_out_select(files.labels, class_names, files.names)
    return files.take(kept), files.take(chosen)


def file_splits(
    name: str,
    listed: ListedFiles,
    images: Callable[[str, Files], LabelledImages],
    **rest: Any,
) -> DataSplits:
    """The splits of files; copies of train files in the others are counted in a warning.

    Args:
        name: Of the data set.
        listed: Its files.
        images: Makes a split of its name and its files.
        **rest: More fields of the result.
    """
    splits = listed.splits
    if current_ranks().is_first:
        warn_of_copies(listed.root, splits, len(listed.class_names))
    return DataSplits(
        name=name,
        train=images("train", splits["train"]),
        select=images("select", splits["select"]),
        test=images("test", splits["test"]),
        class_names=tuple(listed.class_names),
        data_id=hash_data(name, dict(splits)),
        selection=listed.selection,
        **rest,
    )
