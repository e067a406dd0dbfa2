"""Annotations in COCO's JSON, read and checked entry by entry."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mutualnet.data.coco_masks import is_number, segmentation_problem
from mutualnet.data.scaled_objects import LEAST_SIDE
from mutualnet.messages import shorten

logger = logging.getLogger(__name__)

_MAX_SIDE = 2**31
_PARTS = ("images", "annotations", "categories")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object, or a crowd of some that nobody counted, in pixels of the original image."""

    category: int
    """Number of its class, from 1."""
    box: tuple[float, float, float, float]
    """Left, top, width, height; inside of the image."""
    segmentation: Any
    """As in the file; None where there is none that can be used."""
    is_crowd: bool
    area: float
    """In square pixels, as in the file; the box's where it has none."""


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image of the original size, and what is on it."""

    image_id: int
    file_name: str
    """Relative to the folder of its split."""
    height: int
    width: int
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True)
class Annotations:
    """All of one file."""

    images: tuple[AnnotatedImage, ...]
    """In the order of their file names."""
    class_names: tuple[str, ...]
    """Name of class 1, of class 2 and so on, in the order of their ids in the file."""
    category_ids: tuple[int, ...]
    """What the file calls them."""


def read_annotations(
    path: Path, *, needs_masks: bool, max_damaged_share: float = 0.01
) -> Annotations:
    """Read a file of annotations.

    What contradicts itself is an error. Objects that cannot be learned from (without area, outside
    of the image, with a polygon of two points) are left out and counted in a warning, up to a
    share; boxes that stand out of the image are cut at its edge, and counted.

    Args:
        path: The file.
        needs_masks: Leave objects without a sound mask out too.
        max_damaged_share: Share of the objects that may be left out, in [0, 1). One always may.

    Raises:
        ValueError: If the file cannot be read, an entry lacks what it must have, names an image or
            a category that there is not, or too many objects cannot be used. It names file and
            entry.
    """
    content = _read(path)
    names = _category_names(path, content["categories"])
    numbers = {category_id: number for number, category_id in enumerate(sorted(names), 1)}
    sizes = _image_sizes(path, content["images"])
    reader = _Objects(path, sizes, numbers, needs_masks)
    objects: dict[int, list[Annotation]] = {image_id: [] for image_id in sizes}
    for image_id, annotation in reader.read(content["annotations"]):
        objects[image_id].append(annotation)
    reader.tell(len(content["annotations"]), max_damaged_share)
    images = [
        AnnotatedImage(image_id, name, height, width, tuple(objects[image_id]))
        for image_id, (name, height, width) in sizes.items()
    ]
    return Annotations(
        tuple(sorted(images, key=lambda image: image.file_name)),
        tuple(names[category_id] for category_id in sorted(names)),
        tuple(sorted(names)),
    )


def _read(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{path} must be JSON, but is broken ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold {', '.join(_PARTS)}, got {_shown(content)}")
    for part in _PARTS:
        if not isinstance(content.get(part), list):
            raise ValueError(
                f"{path} must hold {', '.join(_PARTS)} as lists, got {_shown(content.get(part))} "
                f"for {part}"
            )
    if not content["images"] or not content["categories"]:
        raise ValueError(f"{path} must name at least one image and one category, got none")
    return content


def _category_names(path: Path, entries: list[Any]) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, entry in enumerate(entries):
        where = f"{path}: category {number}"
        category_id, name = _whole(where, entry, "id"), entry.get("name")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{where} must have a name, got {_shown(name)}")
        if category_id in names:
            raise ValueError(
                f"{where} has the id {category_id} of another one, {names[category_id]!r}"
            )
        names[category_id] = name
    return names


def _image_sizes(path: Path, entries: list[Any]) -> dict[int, tuple[str, int, int]]:
    """File name, height and width of every image by its id."""
    sizes: dict[int, tuple[str, int, int]] = {}
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        where = f"{path}: image {number}"
        image_id, name = _whole(where, entry, "id"), entry.get("file_name")
        parts = PurePosixPath(name).parts if isinstance(name, str) else ()
        if not parts or parts[0] == "/" or ".." in parts or "\0" in str(name):
            raise ValueError(
                f"{where} must have a file_name inside of the split's folder, got {_shown(name)}"
            )
        if image_id in sizes or name in seen:
            raise ValueError(f"{where} has the id or the file_name of another one: {_shown(entry)}")
        height, width = (_whole(where, entry, key, least=1) for key in ("height", "width"))
        sizes[image_id] = (name, height, width)
        seen.add(name)
    return sizes


class _Objects:
    """Reads annotations one by one, and counts what it leaves out or cuts."""

    def __init__(
        self,
        path: Path,
        sizes: Mapping[int, tuple[str, int, int]],
        numbers: Mapping[int, int],
        needs_masks: bool,
    ) -> None:
        self._path, self._sizes, self._numbers = path, sizes, numbers
        self._needs_masks = needs_masks
        self._left_out: list[str] = []
        self._num_cut = 0

    def read(self, entries: list[Any]) -> Iterator[tuple[int, Annotation]]:
        """Every object that can be used, with the id of its image."""
        for number, entry in enumerate(entries):
            where = f"{self._path}: annotation {number}"
            image_id = _whole(where, entry, "image_id")
            category_id = _whole(where, entry, "category_id")
            if image_id not in self._sizes:
                raise ValueError(f"{where} names the image {image_id}, which the file has not")
            if category_id not in self._numbers:
                raise ValueError(
                    f"{where} names the category {category_id}, which the file has not. Its "
                    f"categories: {shorten([str(i) for i in self._numbers], 10)}"
                )
            found = self._read_one(where, entry, image_id, self._numbers[category_id])
            if found is not None:
                yield image_id, found

    def _read_one(
        self, where: str, entry: Mapping[str, Any], image_id: int, category: int
    ) -> Annotation | None:
        _, height, width = self._sizes[image_id]
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            raise ValueError(f"{where} must have a bbox of 4 numbers, got {_shown(box)}")
        left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
        inside = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        number = where.rpartition(" ")[2]
        size = (inside[2] - inside[0], inside[3] - inside[1])
        if not (size[0] > LEAST_SIDE * width and size[1] > LEAST_SIDE * height):
            is_off = left >= width or top >= height or right <= 0 or bottom <= 0
            kind = "a box off the image" if is_off and box[2] > 0 < box[3] else "an empty box"
            self._left_out.append(f"annotation {number} ({kind})")
            return None
        # Boxes are rounded to hundredths in COCO's own files.
        self._num_cut += max(-left, -top, right - width, bottom - height) > 1
        segmentation = entry.get("segmentation")
        problem = segmentation_problem(segmentation, height, width)
        is_crowd = entry.get("iscrowd", 0)
        if is_crowd not in (0, 1):
            raise ValueError(f"{where} must have 0 or 1 as iscrowd, got {_shown(is_crowd)}")
        if problem is not None and self._needs_masks:
            self._left_out.append(f"annotation {number} ({problem})")
            return None
        area: Any = entry.get("area")
        return Annotation(
            category=category,
            box=(float(inside[0]), float(inside[1]), float(size[0]), float(size[1])),
            segmentation=segmentation if problem is None else None,
            is_crowd=bool(is_crowd),
            area=float(area) if is_number(area) else float(size[0] * size[1]),
        )

    def tell(self, num_objects: int, max_damaged_share: float) -> None:
        """Warn of what was left out or cut; too much of the former is an error."""
        if self._num_cut:
            logger.warning(
                "%s: boxes cut at the edge of their image: %d", self._path, self._num_cut
            )
        if not self._left_out:
            return
        kinds = Counter(text.partition("(")[2].rstrip(")") for text in self._left_out)
        text = (
            f"{len(self._left_out)} of {num_objects} objects of {self._path} cannot be used: "
            f"{shorten([f'{kind} ({count})' for kind, count in kinds.most_common()])}; the first "
            f"is {self._left_out[0]}"
        )
        allowed = max(1, int(max_damaged_share * num_objects))
        if len(self._left_out) > allowed:
            raise ValueError(
                f"{text}. At most {allowed} may be (max_damaged_share={max_damaged_share}): repair "
                "them, or raise data.max_damaged_share."
            )
        logger.warning("%s: left out", text)


def _whole(where: str, entry: Any, key: str, least: int | None = None) -> int:
    """A whole number of an entry."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} must be keys and values, got {_shown(entry)}")
    value: Any = entry.get(key)
    is_sound = isinstance(value, int) and not isinstance(value, bool)
    if not is_sound or (least is not None and not least <= value < _MAX_SIDE):
        wanted = f"a whole number >= {least} and < 2**31" if least else "a whole number"
        raise ValueError(f"{where} must have {wanted} as {key}, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return f"{value!r:.80}"
