"""Kinetics: videos that tables name, or in folders of classes."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mutualnet.clip_steps import ClipSampling
from mutualnet.data.clips import check_clip_settings, clip_splits, load_video_folder
from mutualnet.data.files import Files, ListedFiles, hold_out_select, is_regular_file
from mutualnet.data.splits import DataSplits, SplitSettings
from mutualnet.messages import shorten
from mutualnet.video_files import EXTENSIONS

logger = logging.getLogger(__name__)

_TABLES = {"train": ("train",), "test": ("val", "validate", "validation")}
"""Names of the tables of each split: what the field reports on is called `val` there."""
_CLASS_NAMES = ("classes.txt", "class_names.txt", "labels.txt")
"""Files that may tell the names of numbered classes, one a line."""


def load_kinetics(
    path: Path | None,
    settings: SplitSettings,
    *,
    max_damaged_share: float = 0.01,
    **sampling: Any,
) -> DataSplits:
    """Load Kinetics, or videos laid out like it.

    `train.csv` and `val.csv` (or `validate.csv`), in the folder or in `annotations/`, have the
    columns `label`, `youtube_id`, `time_start` and `time_end` as they are published, whose files
    are found anywhere below the folder by their usual names (`ID_000010_000020.mp4`, or `ID.mp4`);
    or `path` and `label`, also without a header and separated by a space. Listed videos that are
    not there are counted in a warning. Without tables the layouts are those of `load_video_folder`.
    The test split is `val`, as in papers; `test.csv` is not read.

    Args:
        path: The folder.
        settings: What is held out, and how train clips are changed.
        max_damaged_share: Share of a split's files that may be damaged, in [0, 1). One always may.
        **sampling: Fields of `ClipSampling`.

    Raises:
        ValueError: If the folder does not hold this, an argument is out of its range, or PyAV is
            not installed.
    """
    chosen = ClipSampling(**sampling)
    check_clip_settings(settings)
    tables = None if path is None else _find_tables(path)
    if path is None or tables is None:
        return load_video_folder(
            path, settings, max_damaged_share=max_damaged_share, name="kinetics", **sampling
        )
    rows = _found_rows(path, {split: _read_table(table) for split, table in tables.items()})
    labels = sorted({label for _, label in rows["train"]})
    if len(labels) < 2:
        raise ValueError(f"{tables['train']} must name at least 2 classes, got {labels}")
    strange = sorted({label for _, label in rows["test"]} - set(labels))
    if strange:
        raise ValueError(f"{tables['test']} has classes that train lacks: {shorten(strange)}")
    if all(label.isdecimal() for label in labels):
        labels.sort(key=int)
    class_names = _class_names(path, labels)
    numbers = {label: number for number, label in enumerate(labels)}
    train, test = (
        Files([name for name, _ in found], [numbers[label] for _, label in found])
        for found in (rows["train"], rows["test"])
    )
    train, select = hold_out_select(train, settings, class_names)
    divided = {"train": train, "select": select, "test": test}
    listed = ListedFiles(path, divided, class_names, settings.selection)
    return clip_splits("kinetics", listed, settings, chosen, max_damaged_share)


def _find_tables(path: Path) -> dict[str, Path] | None:
    """The table of each split; None where there is none at all."""
    found = {}
    for split, names in _TABLES.items():
        places = [
            folder / f"{name}.csv" for folder in (path, path / "annotations") for name in names
        ]
        existing = [place for place in places if place.is_file()]
        if existing:
            found[split] = existing[0]
    if not found:
        return None
    if len(found) < len(_TABLES):
        raise ValueError(
            f"path must be a folder with train.csv and val.csv (or validate.csv), got {path} with "
            f"{next(iter(found.values())).name} alone"
        )
    return found


def _read_table(table: Path) -> list[tuple[str, str]]:
    """Path, or stem without its folder, and label of each row."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in file.read().splitlines() if line.strip()]
        return _read_lines(table, lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} must be a table of videos ({error})") from None


def _read_lines(table: Path, lines: list[str]) -> list[tuple[str, str]]:
    heading = next(csv.reader(lines[:1]), [])
    heading = [name.strip().lower() for name in heading]
    if {"label", "youtube_id"} <= set(heading):
        return [_published(table, n, row) for n, row in _rows(table, heading, lines)]
    if {"label", "path"} <= set(heading):
        return [(row["path"], row["label"]) for _, row in _rows(table, heading, lines)]
    pairs = []
    for number, line in enumerate(lines, 1):
        name, separator, label = line.strip().rpartition("," if "," in line else " ")
        if not separator or not name.strip().lower().endswith(EXTENSIONS):
            raise ValueError(
                f"{table} must have the columns label, youtube_id, time_start, time_end, or path "
                f"and label, or lines of a video and its class, got {line!r:.80} in line {number}"
            )
        pairs.append((name.strip(), label.strip()))
    return pairs


def _rows(
    table: Path, heading: list[str], lines: list[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows below a heading, by their line's number."""
    for number, cells in enumerate(csv.reader(lines[1:]), 2):
        if len(cells) != len(heading):
            raise ValueError(
                f"{table} must have {len(heading)} columns, got {len(cells)} in line {number}"
            )
        yield number, {key: cell.strip() for key, cell in zip(heading, cells, strict=True)}


def _published(table: Path, number: int, row: dict[str, str]) -> tuple[str, str]:
    """The stem of a published row's file, and its label."""
    try:
        times = [int(float(row[key])) for key in ("time_start", "time_end")]
    except (KeyError, ValueError, OverflowError):  # infinity is no whole number
        raise ValueError(
            f"{table} must have whole numbers of seconds in time_start and time_end, got "
            f"{row!s:.200} in line {number}"
        ) from None
    return f"{row['youtube_id']}_{times[0]:06d}_{times[1]:06d}", row["label"]


def _found_rows(
    path: Path, tables: dict[str, list[tuple[str, str]]]
) -> dict[str, list[tuple[str, str]]]:
    """Names relative to the folder and labels of the listed videos that are there."""
    by_stem = _videos_by_stem(path)
    found = {}
    for split, rows in tables.items():
        places = [(_place(path, name, split, by_stem), label) for name, label in rows]
        found[split] = [(place, label) for place, label in places if place is not None]
        missing = [
            name for (name, _), (place, _) in zip(rows, places, strict=True) if place is None
        ]
        if not found[split]:
            raise ValueError(
                f"path must hold the videos that its tables name, got none of the {len(rows)} of "
                f"{split} in {path}: {shorten(missing)}"
            )
        if missing:
            logger.warning(
                "%d of %d listed %s videos are not in %s and are left out: %s",
                len(missing),
                len(rows),
                split,
                path,
                shorten(missing),
            )
    return found


def _videos_by_stem(path: Path) -> dict[str, list[str]]:
    """All videos below a folder, relative to it."""
    found: dict[str, list[str]] = {}
    for parent, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            stem, ending = os.path.splitext(name)  # noqa: PTH122
            if ending.lower() in EXTENSIONS:
                place = Path(parent, name).relative_to(path).as_posix()
                found.setdefault(stem, []).append(place)
    return found


def _place(path: Path, name: str, split: str, by_stem: dict[str, list[str]]) -> str | None:
    """Where a listed video lies, relative to the folder if it is in there."""
    if name.lower().endswith(EXTENSIONS):
        return _relative(path, name) if is_regular_file(path / name) else None
    places = by_stem.get(name) or by_stem.get(name[: -len("_000000_000000")]) or []
    # The same name may lie in the folders of several splits.
    own = [place for place in places if Path(place).parts[0].lower() in _TABLES[split]]
    # Reading a pipe might never end.
    return next((place for place in (*own, *places) if is_regular_file(path / place)), None)


def _relative(path: Path, name: str) -> str:
    """An absolute name below the folder as one that stays when the folder moves; else the name."""
    place = Path(name)
    for folder in (path.absolute(), path.resolve()) if place.is_absolute() else ():
        if place.is_relative_to(folder):
            return place.relative_to(folder).as_posix()
    return name


def _class_names(path: Path, labels: list[str]) -> list[str]:
    """Names of the classes; those of numbers are in a file, if anywhere."""
    if not all(label.isdecimal() for label in labels):
        return labels
    for name in _CLASS_NAMES:
        file = path / name
        if file.is_file():
            try:
                text = file.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"{file} must be a list of class names ({error})") from None
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            if len(lines) <= max(map(int, labels)):
                raise ValueError(
                    f"{file} must name the classes 0 to {labels[-1]}, got {len(lines)} lines"
                )
            return [lines[int(label)] for label in labels]
    return labels
