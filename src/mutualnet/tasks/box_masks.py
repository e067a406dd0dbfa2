"""Masks as a detector gives them, of boxes alone or of its image, for the original image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from mutualnet.data import AnnotatedImage

_PASTED_AT_ONCE = 16
"""Masks of an image's size in memory, at most."""


def original_masks(
    found: Mapping[str, Tensor], size: tuple[int, int], truth: AnnotatedImage
) -> Iterator[np.ndarray]:
    """Masks of detections for the original image, a few at a time: bool (m, H, W).

    Args:
        found: Detections of one image, with `box_masks` or `masks`.
        size: Height and width of the image that the detector saw.
        truth: Tells the original one's.

    Raises:
        ValueError: If there are neither.
    """
    full = (truth.height, truth.width)
    name = next((name for name in ("box_masks", "masks") if name in found), None)
    if name is None:
        raise ValueError(
            f"detections must have masks to be scored by them, got {', '.join(found)}. Take a "
            "detector with a mask head, or data without masks."
        )
    for start in range(0, len(found["boxes"]), _PASTED_AT_ONCE):
        part = slice(start, start + _PASTED_AT_ONCE)
        masks = found[name][part].float()
        if name == "box_masks":
            boxes = found["boxes"][part].double().cpu().numpy()
            yield paste_masks(masks[:, 0].cpu().numpy(), boxes, size, full)
            continue
        if masks.shape[-2:] != full:
            masks = F.interpolate(masks, full, mode="bilinear", align_corners=False)
        yield (masks[:, 0] >= 0.5).cpu().numpy()


def paste_masks(
    masks: np.ndarray, boxes: np.ndarray, before: tuple[int, int], after: tuple[int, int]
) -> np.ndarray:
    """Bring the masks of boxes to an image, maybe of another size than the boxes are for.

    torchvision makes the targets of a mask head by a `roi_align` that places the value of a pixel
    at its upper left corner; so does this.

    Args:
        masks: (M, S, S) shares in [0, 1].
        boxes: (M, 4) left, top, right, bottom.
        before: Height and width of the image that the boxes are for.
        after: Of the result.

    Returns:
        bool (M, H, W), true where the interpolated share is a half or more.

    Differs: torchvision's `paste_masks_in_image` rounds boxes to pixels and adds one, which on
        objects of 10 pixels moves every edge by a tenth.
    """
    result = np.zeros((len(masks), *after), dtype=bool)
    for mask, (left, top, right, bottom), pasted in zip(masks, boxes, result, strict=True):
        rows, down = _shares(top, bottom, mask.shape[0], before[0], after[0])
        columns, across = _shares(left, right, mask.shape[1], before[1], after[1])
        pasted[rows, columns] = down @ mask @ across.T >= 0.5
    return result


def _shares(start: float, stop: float, side: int, before: int, after: int) -> tuple[slice, Any]:
    """Which pixels of the result a box reaches, and the share of each of a mask's cells in them."""
    scale = after / before
    first = max(0, int(np.floor(start * scale)) - 1)
    last = min(after, int(np.ceil(stop * scale)) + 2)
    places = (np.arange(first, max(first, last)) + 0.5) / scale - 0.5
    cells = (places - start) / max(stop - start, 1e-6) * side - 0.5
    is_inside = (cells > -0.5 - 1e-6) & (cells < side - 0.5 + 1e-6)
    # The outermost cells reach to the edges of the box.
    distances = np.abs(cells.clip(0, side - 1)[:, None] - np.arange(side))
    return slice(first, max(first, last)), (1 - distances).clip(0) * is_inside[:, None]
