"""Photos in files: their transforms, and the three splits made of lists of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from mutualnet.data.augment import Cutout, learned_policy
from mutualnet.data.damaged import ImageFiles
from mutualnet.data.draws import Draws
from mutualnet.data.files import ListedFiles, file_splits
from mutualnet.data.preprocessing import (
    CenterCrop,
    CropEnds,
    Decode,
    Normalize,
    Preprocessing,
    ResizeShortSide,
    Scale,
    ToTensor,
)
from mutualnet.data.splits import DataSplits, SplitSettings, check_augment
from mutualnet.image_files import to_rgb

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet."""
CROP_SCALES = {"standard": (0.25, 1.0), "wide_crop": (0.08, 1.0)}
"""Share of the area that a random crop covers, by the name of the augmentation."""


def train_transform(settings: SplitSettings) -> Callable[[Image.Image], Tensor]:
    """What train photos go through: a learned policy takes the place of the changes of colour.

    Raises:
        ValueError: If the settings are not for photos.
    """
    check_augment(settings.augment, (*CROP_SCALES, "none"))
    if settings.augment == "none":
        if settings.policy != "none" or settings.cutout:
            raise ValueError(
                "policy and cutout come on top of the augmentation of photos, got augment=none. "
                "Set it to standard or wide_crop."
            )
        return photo_transform(settings.resolution)
    colours: torch.nn.Module = v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)
    if settings.policy != "none":
        colours = learned_policy(settings.policy, "imagenet")
    return v2.Compose(
        [
            to_rgb,
            v2.RandomResizedCrop(settings.resolution, scale=CROP_SCALES[settings.augment]),
            v2.RandomHorizontalFlip(),
            colours,
            *_to_tensor(),
            *([_OneImage(Cutout(side=settings.cutout))] if settings.cutout else []),
        ]
    )


@dataclass(frozen=True)
class _OneImage:
    """A change of batches, for a single image and by torch's generator."""

    change: Cutout

    def __call__(self, image: Tensor) -> Tensor:
        return self.change(image[None], Draws.fresh(1))[0]


def photo_transform(
    resolution: int, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
) -> Preprocessing:
    """What turns a photo into an input, as for a test image; no data set is read."""
    return Preprocessing(
        (
            Decode(mode="RGB"),
            # They lie outside of the central square anyway.
            CropEnds(),
            ResizeShortSide(size=round(resolution * 256 / 224)),
            CenterCrop(size=resolution),
            ToTensor(),
            Scale(),
            Normalize(mean=mean, std=std),
        )
    )


def _to_tensor() -> list[torch.nn.Module]:
    return [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]


def photo_splits(
    name: str,
    listed: ListedFiles,
    changed: Callable[[Image.Image], Tensor],
    resolution: int,
    max_damaged_share: float,
) -> DataSplits:
    """The splits of photos in files; copies of train files in the others are counted in a warning.

    Args:
        name: Of the data set.
        listed: Its files.
        changed: What train photos go through.
        resolution: Side of the images, in pixels.
        max_damaged_share: Share of a split's files that may be damaged, in [0, 1). One always may.
    """
    plain = photo_transform(resolution)
    transforms: dict[str, Callable[[Image.Image], Tensor]] = {
        "train": changed,
        "select": plain,
        "test": plain,
    }
    return file_splits(
        name,
        listed,
        lambda split, files: ImageFiles(
            listed.root,
            *files,
            transforms[split],
            split=split,
            max_damaged_share=max_damaged_share,
        ),
        mean=MEAN,
        std=STD,
        resolution=resolution,
        eval_transform=plain,
    )
