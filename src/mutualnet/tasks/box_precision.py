"""Boxes of a detector in single precision, whatever its layers are computed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from mutualnet.losses import at_least_fp32


@contextmanager
def exact_boxes(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Let one of torchvision's detectors compute boxes in float32 inside the block.

    Under autocast it computes anchors, boxes and what to learn of them in the format of its layers'
    outputs. In bfloat16 pixels from 512 to 1024 are multiples of 4, and non-maximum suppression,
    which moves the boxes of each class to a place of their own, takes some for others.

    Args:
        network: Any; parts that are called as torchvision's are not looked for elsewhere.
        device: Where it runs. Without autocast there nothing is done.
    """
    with ExitStack() as hooks:
        if torch.is_autocast_enabled(device.type):
            rpn, heads = getattr(network, "rpn", None), getattr(network, "roi_heads", None)
            for owner, name in ((rpn, "head"), (heads, "box_predictor"), (network, "head")):
                module = getattr(owner, name, None)
                if isinstance(module, nn.Module):
                    hooks.callback(module.register_forward_hook(_raise_outputs).remove)
            for owner in (rpn, network):
                module = getattr(owner, "anchor_generator", None)
                if isinstance(module, nn.Module):
                    hooks.callback(module.register_forward_pre_hook(_raise_maps).remove)
        yield


def _raise_outputs(_: nn.Module, __: Any, outputs: Any) -> Any:
    return tree_map_only(Tensor, at_least_fp32, outputs)


def _raise_maps(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Maps without values: anchors go by their sizes, and have their format."""
    if len(args) != 2:  # not called as torchvision does
        return args
    images, maps = args
    return images, [at_least_fp32(m.new_empty(())).expand(m.shape) for m in maps]
