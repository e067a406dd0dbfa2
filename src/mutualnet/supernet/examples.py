"""What a network is traced, counted and timed with: zeros of the shapes that it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from mutualnet.space import Subnet
from mutualnet.supernet.meta_copy import meta_copy

ExampleMaker = Callable[[Subnet, Subnet], Any]
"""Gives the input of a sub-network, a batch of one, told the largest of the space too: a tensor, or
several in a tuple."""

_DEFAULT_FRAMES = 16


def resized_batch(example: Any, size: int) -> Any:
    """The same shapes for another number of samples, without values (on the meta device)."""

    def resize(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.empty((size, *value.shape[1:]), dtype=value.dtype, device="meta")

    return tree_map(resize, example)


def first_tensor(inputs: Any) -> Tensor:
    """The first tensor of what a network is called with.

    Raises:
        TypeError: If there is none.
    """
    for value in tree_leaves(inputs):
        if isinstance(value, Tensor):
            return value
    raise TypeError(f"an input must hold a tensor, got {type(inputs).__name__}")


def has_values(inputs: Any) -> bool:
    """Whether a pass computes something: what runs on the meta device has shapes alone."""
    return first_tensor(inputs).device.type != "meta"


class ImagesLike:
    """Makes zeros like an example, at the resolution and with the frames of each sub-network.

    Args:
        example: (N, C, H, W) or (N, C, T, H, W); its T counts where a sub-network has no frames.
            Of another number of dimensions, such as (N, C, L), it stays what it is.
    """

    def __init__(self, example: Tensor) -> None:
        self._shape = tuple(example.shape[1:])
        self._dtype = example.dtype

    def __call__(self, subnet: Subnet, largest: Subnet) -> Tensor:
        """Zeros for a batch of one."""
        if len(self._shape) not in (3, 4):
            return torch.zeros((1, *self._shape), dtype=self._dtype)
        *before, _, _ = self._shape
        if subnet.num_frames is not None and len(before) > 1:
            before[-1] = subnet.num_frames
        side = subnet.resolution
        return torch.zeros((1, *before, side, side), dtype=self._dtype)


def likely_images(model: nn.Module, largest: Subnet) -> ImagesLike:
    """Images or clips that a model takes: of the first of the likely shapes on which it runs.

    Args:
        model: Its first convolution tells whether it sees clips; that and timm's configuration
            tell the channels.
        largest: Sub-network at the top resolution, with all frames.

    Raises:
        ValueError: If it has neither a convolution nor a configuration.
    """
    first = next((m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)), None)
    config = getattr(model, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, dict) else None
    if first is None and not size:
        raise ValueError(
            "the model has no convolution to take the number of input channels from. "
            "Pass example_input=."
        )
    side, frames = largest.resolution, tuple[int, ...]()
    if isinstance(first, nn.Conv3d) or largest.num_frames is not None:
        frames = (largest.num_frames or _DEFAULT_FRAMES,)
    # The first convolution may see rearranged pixels; the configuration may be of another model.
    known = [first.in_channels] if first is not None else []
    likely = list(dict.fromkeys([*known, *((size[0],) if size else ()), 3]))
    for channels in likely if len(likely) > 1 else ():
        try:
            meta_copy(model, torch.empty(2, channels, *frames, side, side, device="meta"))
        except ValueError:
            continue
        return ImagesLike(torch.empty(1, channels, *frames, side, side, device="meta"))
    return ImagesLike(torch.empty(1, likely[0], *frames, side, side, device="meta"))
