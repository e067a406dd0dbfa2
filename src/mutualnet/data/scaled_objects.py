"""Images, boxes and masks brought to another size together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mutualnet.data.preprocessing import ShrinkToConfiguration

Target = dict[str, Any]
"""`boxes` (M, 4) float of left, top, right and bottom, `labels` (M) int64 from 1, and maybe `masks`
(M, H, W) uint8 of zeros and ones, all in pixels of the image; other values stand for themselves."""

LEAST_SIDE = 1e-6
"""A box's width and height as a share of its image's must be larger: single precision may lose what
is smaller when boxes are scaled and mirrored, and detectors refuse boxes without area."""


def scale_objects(
    images: Sequence[Tensor], targets: Sequence[Target], short_side: int
) -> tuple[list[Tensor], list[Target]]:
    """Shrink images with what is on them until their short side is a sub-network's.

    An image that is smaller already stays as it is: at the top resolution its long side was at its
    limit, which is the same for all of them.

    Args:
        images: (C, H, W) each, normalised.
        targets: Of every image.
        short_side: In pixels.

    Returns:
        New lists; tensors of images that keep their size are the same.
    """
    shrink = ShrinkToConfiguration()
    scaled = [shrink(image, short_side) for image in images]
    changed = [
        target if small is image else scale_target(target, _size(image), _size(small))
        for image, small, target in zip(images, scaled, targets, strict=True)
    ]
    return scaled, changed


def scale_target(target: Target, before: tuple[int, int], after: tuple[int, int]) -> Target:
    """What is on an image, for an image of another height and width.

    Pixels are areas: an edge at the border of the image stays there. Masks take the pixel whose
    centre is nearest.
    """
    if before == after:
        return target
    changed = {**target, "boxes": scale_boxes(target["boxes"], before, after)}
    masks = target.get("masks")
    if masks is not None:
        changed["masks"] = (
            F.interpolate(masks[None], after, mode="nearest-exact")[0]
            if len(masks)
            else masks.new_zeros((0, *after))
        )
    return changed


def scale_boxes(boxes: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """Boxes (M, 4) of left, top, right, bottom for an image of another height and width."""
    height, width = after[0] / before[0], after[1] / before[1]
    return boxes * boxes.new_tensor([width, height, width, height])


def flip_objects(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Swap left and right of an image (C, H, W) and of what is on it."""
    width = image.shape[-1]
    boxes = target["boxes"]
    flipped = {**target, "boxes": boxes[:, [2, 1, 0, 3]] * boxes.new_tensor([-1, 1, -1, 1])}
    flipped["boxes"] += boxes.new_tensor([width, 0, width, 0])
    if "masks" in target:
        flipped["masks"] = target["masks"].flip(-1)
    return image.flip(-1), flipped


def _size(image: Tensor) -> tuple[int, int]:
    return int(image.shape[-2]), int(image.shape[-1])
