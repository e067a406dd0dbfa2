"""Multiply-adds of a whole detector, part by part, for an image of any size."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mutualnet.space import Subnet
from mutualnet.supernet import Supernet


def detector_macs(
    supernet: Supernet, subnet: Subnet, size: tuple[int, int] | None = None
) -> dict[str, int]:
    """Count what a sub-network of one of torchvision's detectors computes for one image.

    The box head is counted for as many proposals as it may get, the mask head for as many objects
    as may be found, so that the count does not depend on what is on the image.

    Args:
        supernet: Of a Mask R-CNN, Faster R-CNN or RetinaNet.
        subnet: Which sub-network.
        size: Height and width of the image in pixels, padded to multiples of 32; by default the
            resolution and 5/3 of it, 600 x 1000 for 600.

    Returns:
        Multiply-adds of convolutions and linear layers by part, such as `backbone.body`, and their
        `total`.

    Raises:
        ValueError: If the network is no such detector.
    """
    height, width = size or (subnet.resolution, round(subnet.resolution * 5 / 3))
    detector: Any = copy.deepcopy(supernet.extract(subnet, uncalibrated=True)).eval().to("meta")
    backbone = getattr(detector, "backbone", None)
    if not all(hasattr(backbone, part) for part in ("body", "fpn")):
        raise ValueError("the network must be a detector on a body with a feature pyramid")
    channels = next(m for m in detector.modules() if isinstance(m, nn.Conv2d)).in_channels
    image = torch.empty(1, channels, -(-height // 32) * 32, -(-width // 32) * 32, device="meta")
    found: dict[str, int] = {}

    def count(part: str, module: Any, *inputs: Any) -> Any:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            outputs = module(*inputs)
        found[part] = found.get(part, 0) + counter.get_total_flops() // 2
        return outputs

    count("backbone.body", detector.backbone.body, image)
    maps = list(count("backbone.fpn", detector.backbone, image).values())
    found["backbone.fpn"] -= found["backbone.body"]
    if hasattr(detector, "rpn"):
        count("rpn", detector.rpn.head, maps)
        _count_roi_heads(detector, maps[0].shape[1], count)
    elif hasattr(detector, "head"):
        count("head", detector.head, maps)
    else:
        raise ValueError("the network must be a Mask R-CNN, Faster R-CNN or RetinaNet")
    return {**found, "total": sum(found.values())}


def _count_roi_heads(detector: Any, channels: int, count: Any) -> None:
    heads = detector.roi_heads
    proposals = detector.rpn._post_nms_top_n["testing"]
    sides = heads.box_roi_pool.output_size
    crops = torch.empty(proposals, channels, *sides, device="meta")
    count("box head", heads.box_predictor, count("box head", heads.box_head, crops))
    if heads.has_mask():
        sides = heads.mask_roi_pool.output_size
        crops = torch.empty(heads.detections_per_img, channels, *sides, device="meta")
        count("mask head", heads.mask_predictor, count("mask head", heads.mask_head, crops))
