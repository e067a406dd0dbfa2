"""A folder of photos with a table of the labels that each of them carries."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from mutualnet.data.copies import warn_of_copies
from mutualnet.data.damaged import ImageFiles
from mutualnet.data.files import is_regular_file
from mutualnet.data.photos import MEAN, STD, photo_transform, train_transform
from mutualnet.data.splits import DataSplits, SplitSettings, hash_data, stratified_split
from mutualnet.distributed import current_ranks
from mutualnet.messages import shorten

TABLE = "labels.csv"
TEST_SHARE = 0.2
"""Share of the images that becomes the test split where the table names none."""


def load_multilabel(
    path: Path | None,
    settings: SplitSettings,
    *,
    max_damaged_share: float = 0.01,
) -> DataSplits:
    """Load photos that may carry several labels.

    `labels.csv` has the columns `file` (relative to the folder), `labels` (separated by
    semicolons, possibly none) and, if wanted, `split` (`train` or `test`). Without it a fifth of
    the images, always the same, is the test split. An image may have several rows, such as one for
    each of its labels.

    Args:
        path: Folder with `labels.csv`.
        settings: What is held out, and how train images are changed.
        max_damaged_share: Share of a split's files that may be damaged, in [0, 1). One always may.

    Raises:
        ValueError: If there is no such table, it lacks a column, names an image that is not there,
            one image in two splits, or fewer than two labels.
    """
    if path is None or not (path / TABLE).is_file():
        raise ValueError(f"path must be a folder with {TABLE}, got {path}")
    rows = _read_rows(path)
    names = _names(rows)
    class_names, targets = _read_labels(path, rows)
    train, test = _train_and_test(path, rows)
    kept, chosen = settings.hold_out_select(*_without_strata([names[i] for i in train]))
    train, select = train[kept], train[chosen]
    changed = train_transform(settings)
    plain = photo_transform(settings.resolution)
    positions_of = {"train": train, "select": select, "test": test}
    if current_ranks().is_first:
        listed = {split: [names[i] for i in part] for split, part in positions_of.items()}
        warn_of_copies(path, {s: (files, [0] * len(files)) for s, files in listed.items()}, 1)
    images = {
        split: ImageFiles(
            path,
            [names[i] for i in positions],
            targets[positions],
            changed if split == "train" else plain,
            split=split,
            max_damaged_share=max_damaged_share,
        )
        for split, positions in positions_of.items()
    }
    return DataSplits(
        name="multilabel",
        train=images["train"],
        select=images["select"],
        test=images["test"],
        class_names=tuple(class_names),
        mean=MEAN,
        std=STD,
        resolution=settings.resolution,
        data_id=hash_data(
            "multilabel", {p: _names_and_labels(rows, positions_of[p]) for p in positions_of}
        ),
        eval_transform=plain,
        task="multilabel",
        selection=settings.selection,
    )


def check_labels_carried(data: DataSplits) -> None:
    """Refuse a division that leaves a split without any label.

    Args:
        data: Of images that may carry several labels.

    Raises:
        ValueError: If the train, select or test images carry none.
    """
    ways_out = {
        "train": f"Let a column split of {TABLE} put images with labels there.",
        "select": "Set another data.select_share or seed, or label more images.",
        "test": f"Let a column split of {TABLE} put images with labels there.",
    }
    for split, way_out in ways_out.items():
        labels = getattr(data, split).labels
        if not labels.any():
            raise ValueError(
                f"the {split} split must hold images that carry labels, got {len(labels)} without "
                f"any: nothing could be scored on them. {way_out}"
            )


def _read_rows(path: Path) -> list[dict[str, str]]:
    """One row for each image of the table, all of which are there; a missing cell is None."""
    try:
        with (path / TABLE).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path / TABLE} cannot be read as CSV ({error})") from None
    if not rows or not {"file", "labels"} <= set(rows[0]):
        raise ValueError(f"{path / TABLE} must have rows with the columns file and labels")
    rows = _merged(path, rows)
    missing = [name for name in _names(rows) if not is_regular_file(path / name)]
    if missing:
        raise ValueError(
            f"{path} must hold every image of {TABLE}, got {len(missing)} that are not there: "
            f"{shorten(missing)}"
        )
    return rows


def _merged(path: Path, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """One row for each file, with the labels of all its rows: tables may have a row per label."""
    merged: dict[str, dict[str, str]] = {}
    for row in rows:
        first = merged.setdefault(os.path.normpath(row["file"] or ""), row)
        if first is row:
            continue
        splits = [entry.get("split") for entry in (first, row)]
        if splits[0] != splits[1]:
            raise ValueError(
                f"{path / TABLE} must name one split for each file, got {splits[0]} and "
                f"{splits[1]} for {row['file']}"
            )
        labels = [*_split_labels(first["labels"]), *_split_labels(row["labels"])]
        first["labels"] = ";".join(dict.fromkeys(labels))
    return list(merged.values())


def _split_labels(cell: str | None) -> list[str]:
    return [label.strip() for label in (cell or "").split(";") if label.strip()]


def _names(rows: list[dict[str, str]]) -> list[str]:
    return [row["file"] or "" for row in rows]


def _read_labels(path: Path, rows: list[dict[str, str]]) -> tuple[list[str], np.ndarray]:
    """Names of the K labels, and which of them each image carries: (N, K) zeros and ones."""
    carried = [set(_split_labels(row["labels"])) for row in rows]
    class_names = sorted(set().union(*carried))
    if len(class_names) < 2:
        raise ValueError(f"{path / TABLE} must name at least 2 labels, got {class_names}")
    targets = np.array([[name in labels for name in class_names] for labels in carried], np.float32)
    return class_names, targets


def _train_and_test(path: Path, rows: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the train and the test images, by the table or by a hash of their names."""
    if "split" not in rows[0]:
        strata, class_names, keys = _without_strata(_names(rows))
        return stratified_split(
            strata, TEST_SHARE, seed=0, purpose="test", class_names=class_names, keys=keys
        )
    splits = np.array([row["split"] or "" for row in rows])
    found = set(splits.tolist())
    if found != {"train", "test"}:
        raise ValueError(
            f"the column split of {path / TABLE} must hold train and test, got {sorted(found)}"
        )
    return np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")


def _without_strata(names: list[str]) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """All images as of one class, by their names: labels that come together have no strata."""
    return np.zeros(len(names), dtype=np.int64), ("images",), names


def _names_and_labels(
    rows: list[dict[str, str]], positions: np.ndarray
) -> tuple[list[str], list[str]]:
    """Names and labels of some images."""
    return [rows[i]["file"] for i in positions], [rows[i]["labels"] for i in positions]
