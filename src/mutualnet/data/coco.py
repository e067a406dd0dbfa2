"""Photos with annotated objects, in the files and folders of COCO."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mutualnet.data.coco_json import AnnotatedImage, Annotations, read_annotations
from mutualnet.data.coco_masks import mask_tools, to_mask
from mutualnet.data.damaged import DamagedFiles, check_damaged_share
from mutualnet.data.files import is_regular_file
from mutualnet.data.photos import MEAN, STD
from mutualnet.data.preprocessing import (
    Decode,
    Normalize,
    Preprocessing,
    ResizeSides,
    Scale,
    ShrinkToConfiguration,
    ToTensor,
)
from mutualnet.data.scaled_objects import Target, flip_objects, scale_target
from mutualnet.data.splits import (
    DataSplits,
    LabelledImages,
    SplitSettings,
    check_augment,
    hash_data,
)
from mutualnet.image_files import read_image
from mutualnet.messages import shorten

logger = logging.getLogger(__name__)

LONG_SIDE = 1000
"""Most pixels of the long side, as in the MutualNet paper."""
_LAYOUT = (
    "path must be a folder with annotations/instances_train*.json and instances_val*.json (one of "
    "each), and the images in train*/ and val*/, or in images/train*/ and images/val*/"
)


class Truth:
    """What detections of an image are scored against: at its original size, crowds included.

    It is no dataclass: what moves batches between devices would look into one, and change it.

    Args:
        image: With its annotations.
    """

    __slots__ = ("image",)

    def __init__(self, image: AnnotatedImage) -> None:
        self.image = image


class AnnotatedPhotos(LabelledImages):
    """One split: pairs of a normalised image (3, H, W) and what is on it.

    Images differ in size; a batch is a list of images and a list of targets. A target has `boxes`
    (M, 4) float of left, top, right and bottom in pixels of the image, `labels` (M) int64 from 1,
    `masks` (M, H, W) uint8 where they are asked for, and `truth`, a `Truth`. Crowds are in the
    truth alone.

    A file that cannot be read, or whose size is not that of the annotations, is named in a warning,
    once, and the next sound image of the split takes its place. More of them than allowed are an
    error.

    Args:
        root: Folder that file names are relative to.
        images: With their annotations.
        num_classes: K.
        transform: What makes an input of a photo; it keeps the aspect.
        split: Name of the split, for messages.
        has_masks: Whether targets have masks.
        flips: Whether half of the images are mirrored.
        max_damaged_share: Share of files that may be damaged, in [0, 1). One always may.
    """

    def __init__(
        self,
        root: Path,
        images: Sequence[AnnotatedImage],
        num_classes: int,
        transform: Preprocessing,
        *,
        split: str,
        has_masks: bool,
        flips: bool = False,
        max_damaged_share: float = 0.01,
    ) -> None:
        self.root, self.images, self.split = root, tuple(images), split
        self.transform, self.has_masks, self.flips = transform, has_masks, flips
        self._counts = np.zeros((len(self.images), num_classes), dtype=np.int64)
        for row, image in zip(self._counts, self.images, strict=True):
            for annotation in image.annotations:
                row[annotation.category - 1] += not annotation.is_crowd
        self._damaged = DamagedFiles(
            len(self.images), self._path, split=split, kind="image", max_share=max_damaged_share
        )

    @property
    def labels(self) -> np.ndarray:
        """Objects of every class on each image (N, K), crowds left out."""
        return self._counts

    @property
    def damaged(self) -> list[Path]:
        """Files found damaged so far, by all workers."""
        return self._damaged.paths

    def _path(self, index: int) -> Path:
        return self.root / self.images[index].file_name

    def collate(self, items: Sequence[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
        """A batch: images of different sizes stay a list."""
        return [image for image, _ in items], [target for _, target in items]

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be below {len(self)}, got {index}")
        for place in np.roll(np.arange(len(self)), -(index % len(self))):
            photo = self._read(int(place))
            if photo is not None:
                return self._make(photo, self.images[int(place)])
        raise ValueError(f"all {len(self)} {self.split} images in {self.root} are damaged")

    def _read(self, index: int) -> Image.Image | None:
        """Decode a photo, or note that it is damaged and return None."""
        substitute = f"another {self.split} image"
        photo: Image.Image | None = self._damaged.read(
            index, lambda: self._decode(index), substitute
        )
        self._damaged.check_share()
        return photo

    def _decode(self, index: int) -> Image.Image:
        photo, known = read_image(self._path(index)), self.images[index]
        if photo.size != (known.width, known.height):
            raise ValueError(
                f"its size is {photo.size}, its annotations are for {(known.width, known.height)}"
            )
        return photo

    def _make(self, photo: Image.Image, known: AnnotatedImage) -> tuple[Tensor, Target]:
        image = self.transform(photo)
        objects = [a for a in known.annotations if not a.is_crowd]
        corners = [(x, y, x + w, y + h) for x, y, w, h in (a.box for a in objects)]
        before = (known.height, known.width)
        target: Target = {
            "boxes": torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([a.category for a in objects], dtype=torch.int64),
        }
        if self.has_masks:
            masks = [to_mask(a.segmentation, *before) for a in objects]
            target["masks"] = torch.from_numpy(
                np.stack(masks) if masks else np.zeros((0, *before), dtype=np.uint8)
            )
        target = scale_target(target, before, (int(image.shape[-2]), int(image.shape[-1])))
        if self.flips and random.random() < 0.5:
            image, target = flip_objects(image, target)
        target["truth"] = Truth(known)
        return image, target


def photo_transform(resolution: int) -> Preprocessing:
    """What turns a photo into an input: its short side is the resolution, the long one limited."""
    return Preprocessing(
        (
            Decode(mode="RGB"),
            ResizeSides(short=resolution, long=max(LONG_SIDE, resolution)),
            ToTensor(),
            Scale(),
            Normalize(mean=MEAN, std=STD),
        ),
        last=ShrinkToConfiguration(),
    )


def load_coco(
    path: Path | None, settings: SplitSettings, *, max_damaged_share: float = 0.01
) -> DataSplits:
    """Load photos with the boxes and masks of objects.

    `val` is the test split; select images are held out of `train` by a hash of their names. The
    standard augmentation mirrors half of the train images.

    Args:
        path: Folder with `annotations/instances_{train,val}.json` and the images in `train/` and
            `val/`; names may have something after the split's, as in `instances_train2017.json`
            and `train2017/`.
        settings: What is held out, and how train images are changed.
        max_damaged_share: Share of a split's files, and of its objects, that may be damaged, in
            [0, 1). One always may.

    Raises:
        ValueError: If the folder has not this layout, annotations contradict themselves or each
            other, too many images are missing, a split has no object, or faster-coco-eval is not
            installed.
    """
    return _load("coco", path, settings, max_damaged_share, has_masks=True)


def load_coco_boxes(
    path: Path | None, settings: SplitSettings, *, max_damaged_share: float = 0.01
) -> DataSplits:
    """Load photos with the boxes of objects alone; all else is as in `load_coco`."""
    return _load("coco_boxes", path, settings, max_damaged_share, has_masks=False)


def _load(
    name: str,
    path: Path | None,
    settings: SplitSettings,
    max_damaged_share: float,
    *,
    has_masks: bool,
) -> DataSplits:
    mask_tools()  # a missing package is told before anything is read
    check_augment(settings.augment, ("standard", "none"))
    if settings.policy != "none" or settings.cutout:
        raise ValueError(f"{name} has neither policy nor cutout: leave them at none and 0")
    check_damaged_share(max_damaged_share)
    if path is None or not path.is_dir():
        found = "None" if path is None else f"{path}, which is not a folder"
        raise ValueError(f"{_LAYOUT}, got {found}")
    files = {split: _annotation_file(path, split) for split in ("train", "val")}
    folders = {split: _image_folder(path, file) for split, file in files.items()}
    known = {
        split: _present(
            read_annotations(file, needs_masks=has_masks, max_damaged_share=max_damaged_share),
            folders[split],
            file,
            max_damaged_share,
        )
        for split, file in files.items()
    }
    train, val = known["train"], known["val"]
    _check_categories(files, train, val)
    keys = [image.file_name for image in train.images]
    kept, chosen = settings.hold_out_select(np.zeros(len(keys), dtype=int), ("images",), keys)
    plain = photo_transform(settings.resolution)
    parts = {
        "train": (folders["train"], [train.images[i] for i in kept]),
        "select": (folders["train"], [train.images[i] for i in chosen]),
        "test": (folders["val"], list(val.images)),
    }
    splits = {
        split: AnnotatedPhotos(
            folder,
            images,
            len(train.class_names),
            plain,
            split=split,
            has_masks=has_masks,
            flips=split == "train" and settings.augment == "standard",
            max_damaged_share=max_damaged_share,
        )
        for split, (folder, images) in parts.items()
    }
    _check_objects(splits, files)
    names = {
        split: ([image.file_name for image in images], splits[split].labels.tolist())
        for split, (_, images) in parts.items()
    }
    return DataSplits(
        name=name,
        train=splits["train"],
        select=splits["select"],
        test=splits["test"],
        class_names=train.class_names,
        mean=MEAN,
        std=STD,
        resolution=settings.resolution,
        data_id=hash_data(name, names),
        eval_transform=plain,
        task="instance_segmentation" if has_masks else "detection",
        selection=settings.selection,
    )


def _annotation_file(path: Path, split: str) -> Path:
    found = sorted((path / "annotations").glob(f"instances_{split}*.json"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{_LAYOUT}, got {names} for {split} in {path}")
    return found[0]


def _image_folder(path: Path, file: Path) -> Path:
    name = file.stem.removeprefix("instances_")
    for folder in (path / name, path / "images" / name):
        if folder.is_dir():
            return folder
    raise ValueError(f"{_LAYOUT}, got {file.name} but neither {name}/ nor images/{name}/ in {path}")


def _present(known: Annotations, folder: Path, file: Path, max_damaged_share: float) -> Annotations:
    """The annotations of the images that are there; too many missing ones are an error."""
    missing = [image for image in known.images if not is_regular_file(folder / image.file_name)]
    if not missing:
        return known
    text = (
        f"{folder} lacks {len(missing)} of the {len(known.images)} images of {file}: "
        f"{shorten([image.file_name for image in missing])}"
    )
    allowed = max(1, int(max_damaged_share * len(known.images)))
    if len(missing) > allowed or len(missing) == len(known.images):
        raise ValueError(
            f"{text}. At most {allowed} may be missing (max_damaged_share={max_damaged_share}): "
            "add them, or raise data.max_damaged_share."
        )
    logger.warning("%s; left out", text)
    gone = {image.image_id for image in missing}
    return replace(known, images=tuple(i for i in known.images if i.image_id not in gone))


def _check_objects(splits: dict[str, AnnotatedPhotos], files: dict[str, Path]) -> None:
    """Refuse a split without any object; crowds are none."""
    ways_out = {
        "train": f"Annotate some in {files['train']}.",
        "select": "Set another data.select_share or seed, or annotate more images.",
        "test": f"Annotate some in {files['val']}.",
    }
    for split, images in splits.items():
        if not images.labels.any():
            raise ValueError(
                f"the {split} split must hold images with objects, got {len(images)} without any: "
                f"nothing could be learned from them or scored on them. {ways_out[split]}"
            )


def _check_categories(files: dict[str, Path], train: Annotations, val: Annotations) -> None:
    ours, theirs = (dict(zip(a.category_ids, a.class_names, strict=True)) for a in (train, val))
    if ours == theirs:
        return
    differences = [
        f"{number} ({ours.get(number, 'absent')!r} and {theirs.get(number, 'absent')!r})"
        for number in sorted(set(ours) | set(theirs))
        if ours.get(number) != theirs.get(number)
    ]
    raise ValueError(
        f"{files['train']} and {files['val']} must have the same categories, got others for "
        f"{shorten(differences)}"
    )
