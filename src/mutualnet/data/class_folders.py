"""Files in one folder per class, and which of them are for training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mutualnet.data.files import Files, ListedFiles, hold_out, hold_out_select
from mutualnet.data.folders import check_apart, list_files, list_folders
from mutualnet.data.splits import SplitSettings
from mutualnet.messages import shorten
from mutualnet.selection import Selection

logger = logging.getLogger(__name__)

TEST_SHARE = 0.2
"""Share of each class that becomes the test split where no folder is given for it."""
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Which split a folder is, by its name in small letters."""
_LAYOUTS = (
    "path must be a folder with train/<class>/ and val/<class>/ (or test/<class>/), or with one "
    "folder per class"
)


def list_class_folders(
    path: Path | None, settings: SplitSettings, extensions: tuple[str, ...], what: str
) -> ListedFiles:
    """List the files in `train/<class>/` and the like; see `load_imagefolder` for the layouts.

    Args:
        path: The folder.
        settings: What is held out.
        extensions: Endings of the files' names in small letters; others are left alone.
        what: What the files are, for messages.

    Raises:
        ValueError: If the folder has neither layout, a class is empty, train and test have other
            classes, a link leads where it must not, or a file is a pipe or a device.
    """
    if path is None or not path.is_dir():
        found = "None" if path is None else f"{path}, which is not a folder"
        raise ValueError(f"{_LAYOUTS}, got {found}")
    train_dir, val_dir, test_dir = _find_splits(path)
    splits = [folder for folder in (train_dir, val_dir, test_dir) if folder is not None]
    check_apart(splits)
    class_names = list_folders(train_dir)
    if len(class_names) < 2:
        raise ValueError(f"{_LAYOUTS}, got {len(class_names)} class folders in {train_dir}")
    check_apart(folder / name for folder in splits for name in list_folders(folder))

    def list_in(folder: Path) -> Files:
        return _list_files(path, folder, class_names, extensions, what)

    train = list_in(train_dir)
    if test_dir is None:
        train, test = hold_out(train, TEST_SHARE, 0, "test", class_names)
    else:
        test = list_in(test_dir)
    if val_dir is None:
        train, select = hold_out_select(train, settings, class_names)
        selection = settings.selection
    else:
        selection = Selection(kind="folder")
        select = list_in(val_dir)
        logger.info("select split: all of %s; select_share is not used", val_dir)
    return ListedFiles(
        path, {"train": train, "select": select, "test": test}, class_names, selection
    )


def _find_splits(path: Path) -> tuple[Path, Path | None, Path | None]:
    """Folders of the train, select and test classes; None for what is to be split off."""
    splits: dict[str, Path | None] = dict.fromkeys(_SPLITS.values())
    for name in list_folders(path, named=_SPLITS):
        split = _SPLITS[name.lower()]
        other = splits[split]
        if other is not None:
            raise ValueError(
                f"{path} must have one {split} split, got {other.name}/ and {name}/. Rename or "
                "remove one."
            )
        splits[split] = path / name
    train, val, test = splits.values()
    if train is None:
        held_out = val or test
        if held_out:
            raise ValueError(f"{_LAYOUTS}, got {path} with {held_out.name}/ but no train/")
        return path, None, None
    if val and test and not list_folders(test):
        logger.warning("%s has no class folders and is left alone; %s is the test split", test, val)
        return train, None, val
    if test is None:
        return train, None, val
    return train, val, test


def _list_files(
    root: Path, folder: Path, class_names: Sequence[str], extensions: tuple[str, ...], what: str
) -> Files:
    """All files of a kind below the class folders, in an order of their names alone."""
    found = list_folders(folder)
    if found != list(class_names):
        missing = [repr(name) for name in class_names if name not in set(found)]
        extra = [repr(name) for name in found if name not in set(class_names)]
        differences = [f"without {shorten(missing)}"] if missing else []
        differences += [f"with {shorten(extra)} besides"] if extra else []
        raise ValueError(
            f"{folder} must have the same {len(class_names)} classes as train, "
            f"got it {' and '.join(differences)}"
        )
    files = Files([], [])
    empty: list[str] = []
    ignored: list[str] = []
    for label, name in enumerate(class_names):
        names: list[str] = []
        for file, is_regular in list_files(folder / name):
            is_asked = file.name.lower().endswith(extensions)
            if is_asked and not is_regular:
                raise ValueError(f"{what} must be files, but {file} is a pipe, socket or device")
            (names if is_asked else ignored).append(file.relative_to(root).as_posix())
        if not names:
            empty.append(repr(name))
        files.names.extend(names)
        files.labels.extend([label] * len(names))
    if empty:
        raise ValueError(
            f"every class must have {what} ({', '.join(extensions)}), got none in "
            f"{shorten(empty)} of {folder}. Add {what} or remove the folder."
        )
    if ignored:
        logger.warning(
            "%d files in %s are left alone, their endings are not those of %s: %s",
            len(ignored),
            folder,
            what,
            shorten(ignored),
        )
    return files
