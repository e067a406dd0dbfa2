"""Masks of COCO's annotations: polygons and run lengths, compressed or not."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

_FAR = 10
"""Sides of an image beyond which a polygon is no slip at its edge: drawing one that is far larger
takes all memory."""


def mask_tools() -> ModuleType:
    """faster-coco-eval's functions on masks.

    Raises:
        ValueError: If the package is not installed.
    """
    try:
        from faster_coco_eval.core import mask
    except ImportError:
        raise ValueError(
            "detection needs the package faster-coco-eval: pip install 'mutualnet[detection]'"
        ) from None
    found: ModuleType = mask
    return found


def segmentation_problem(segmentation: Any, height: int, width: int) -> str | None:
    """What is wrong with a segmentation for an image of a size; None if it is sound.

    Args:
        segmentation: A list of polygons, each a list of x and y in turn, or `size` and `counts`.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """
    if isinstance(segmentation, Mapping):
        return _runs_problem(segmentation, height, width)
    if not isinstance(segmentation, list) or not segmentation:
        return "it is neither a list of polygons nor run lengths"
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return "a polygon must have at least 3 points, x and y in turn"
        if not all(map(is_number, polygon)):
            return "a polygon must have finite numbers"
        if _reach(polygon[::2]) > _FAR * width or _reach(polygon[1::2]) > _FAR * height:
            return "a polygon must not lie far outside of its image"
    return None


def _runs_problem(runs: Mapping[str, Any], height: int, width: int) -> str | None:
    size = runs.get("size")
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        return f"its run lengths are for {size!r:.80}, but the image has {[height, width]}"
    counts = runs.get("counts")
    if isinstance(counts, str | bytes) and counts.isascii():
        found = _run_lengths(counts.encode() if isinstance(counts, str) else counts)
    elif isinstance(counts, list) and all(isinstance(count, int) for count in counts):
        found = counts
    else:
        return "its run lengths are no list of numbers"
    if any(count < 0 for count in found) or sum(found) != height * width:
        return f"its run lengths do not add up to {height} x {width} pixels"
    return None


def _run_lengths(text: bytes) -> list[int]:
    """Uncompress: 5 bits a byte, and from the fourth on differences to the one before last."""
    found: list[int] = []
    value = shift = 0
    for byte in text:
        bits = byte - 48
        if not 0 <= bits < 64:
            return []
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            found.append(value + found[-2] if len(found) > 2 else value)
            value = shift = 0
    return found if shift == 0 else []


def to_runs(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """A sound segmentation as compressed run lengths, `size` and `counts`.

    Raises:
        ValueError: If faster-coco-eval is not installed.
    """
    tools = mask_tools()
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        if isinstance(counts, str | bytes):
            counts = counts.encode() if isinstance(counts, str) else counts
            return {"size": [height, width], "counts": counts}
        runs: dict[str, Any] = tools.frPyObjects(
            {"size": [height, width], "counts": list(counts)}, height, width
        )
        return runs
    polygons = [[float(value) for value in polygon] for polygon in segmentation]
    merged: dict[str, Any] = tools.merge(tools.frPyObjects(polygons, height, width))
    return merged


def to_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """A sound segmentation as uint8 (H, W) of zeros and ones.

    Raises:
        ValueError: If faster-coco-eval is not installed.
    """
    mask: np.ndarray = mask_tools().decode(to_runs(segmentation, height, width))
    return mask


def encode_masks(masks: np.ndarray) -> list[dict[str, Any]]:
    """Masks (M, H, W) of zeros and ones as compressed run lengths.

    Raises:
        ValueError: If faster-coco-eval is not installed.
    """
    if not len(masks):
        return []
    last = np.asfortranarray(masks.astype(np.uint8).transpose(1, 2, 0))
    runs: list[dict[str, Any]] = mask_tools().encode(last)
    return runs


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number that a float can hold."""
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) <= sys.float_info.max


def _reach(coordinates: list[float]) -> float:
    return max(map(abs, coordinates))
