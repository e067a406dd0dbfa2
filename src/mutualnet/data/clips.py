"""Video files in one folder per class, and the three splits made of lists of them."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from mutualnet.clip_steps import ClipSampling
from mutualnet.data.class_folders import list_class_folders
from mutualnet.data.clip_sampling import read_video
from mutualnet.data.clip_transforms import MEAN, STD, EvenViews, RandomClip, even_views
from mutualnet.data.damaged import ImageFiles
from mutualnet.data.files import Files, ListedFiles, file_splits
from mutualnet.data.preprocessing import Preprocessing
from mutualnet.data.splits import DataSplits, SplitSettings, check_augment
from mutualnet.video_files import EXTENSIONS, require_av

logger = logging.getLogger(__name__)


def load_video_folder(
    path: Path | None,
    settings: SplitSettings,
    *,
    max_damaged_share: float = 0.01,
    name: str = "video_folder",
    **sampling: Any,
) -> DataSplits:
    """Load videos that lie in one folder per class; the layouts are those of `load_imagefolder`.

    A train clip begins anywhere in its video. The standard augmentation crops it at random, its
    short side drawn too, and mirrors half of the clips.

    Args:
        path: The folder.
        settings: What is held out, and how train clips are changed.
        max_damaged_share: Share of a split's files that may be damaged, in [0, 1). One always may.
        name: Of the data set.
        **sampling: Fields of `ClipSampling`.

    Raises:
        ValueError: If the folder has none of the layouts, a class is empty, train and test have
            other classes, a link leads where it must not, an argument is out of its range, or PyAV
            is not installed.
    """
    chosen = ClipSampling(**sampling)
    check_clip_settings(settings)
    found = list_class_folders(path, settings, EXTENSIONS, "videos")
    return clip_splits(name, found, settings, chosen, max_damaged_share)


def video_views(path: Path, preprocessing: Preprocessing, **sampling: Any) -> Tensor:
    """The views of a video file, as those of the test split are.

    What is wrong with a file that can be read all the same is said in a warning.

    Args:
        path: The file.
        preprocessing: What a frame goes through.
        **sampling: Fields of `ClipSampling`.

    Returns:
        Normalised floats (V, C, T, H, W).

    Raises:
        ValueError: If the file cannot be read, or PyAV is not installed.
    """
    chosen = ClipSampling(**sampling)
    views_of = EvenViews(sampling=chosen, preprocessing=preprocessing)
    read = read_video(path, chosen, prepare=views_of.crops, is_strict=False)
    if read.problem is not None:
        logger.warning("%s is read as far as it goes: %s", path, read.problem)
    views = views_of(read)
    return views if views.dim() == 5 else views[None]


def check_clip_settings(settings: SplitSettings) -> None:
    """Refuse what is for photos, and name the library that is missing.

    Raises:
        ValueError: If the settings are not for clips, or PyAV is not installed.
    """
    check_augment(settings.augment, ("standard", "none"))
    if settings.policy != "none" or settings.cutout:
        raise ValueError("policy and cutout are for images: leave them out where clips are trained")
    require_av()


def clip_splits(
    name: str,
    listed: ListedFiles,
    settings: SplitSettings,
    sampling: ClipSampling,
    max_damaged_share: float,
) -> DataSplits:
    """The splits of video files; copies of train files in the others are counted in a warning.

    Args:
        name: Of the data set.
        listed: Its files.
        settings: How train clips are changed, and their size.
        sampling: Which frames.
        max_damaged_share: Share of a split's files that may be damaged, in [0, 1). One always may.
    """
    side, is_augmented = settings.resolution, settings.augment != "none"
    one, views = replace(sampling, num_clips=1, num_crops=1), even_views(side, sampling)

    def make(split: str, files: Files) -> ImageFiles:
        if split == "train" and is_augmented:
            changed: RandomClip | EvenViews = RandomClip(resolution=side)
            read = partial(read_video, sampling=one, is_random=True)
        else:
            changed = even_views(side, one) if split == "train" else views
            read = partial(read_video, sampling=changed.sampling, prepare=changed.crops)
        return ImageFiles(
            listed.root,
            *files,
            changed,
            split=split,
            max_damaged_share=max_damaged_share,
            read=read,
            kind="clip",
        )

    return file_splits(
        name,
        listed,
        make,
        mean=MEAN,
        std=STD,
        resolution=side,
        eval_transform=views.preprocessing,
        task="action_recognition",
    )
