"""Number formats and memory layouts: what a block is computed in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""PyTorch's name of the memory format of images and of clips, by their dimensions."""


@dataclass(frozen=True, slots=True)
class ComputeFormat:
    """How a network is computed."""

    precision: str
    """`fp32` or `bf16`."""
    memory_format: str
    """`contiguous` or `channels_last`."""

    @property
    def autocast(self) -> torch.dtype | None:
        """What the forward passes are cast to."""
        return torch.bfloat16 if self.precision == "bf16" else None

    def arrange(self, module: nn.Module) -> None:
        """Bring all weights and buffers of a module to the memory format, in place."""
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = self.arranged(tensor.data)

    def arranged(self, value: Any) -> Any:
        """Images, clips or weights of convolutions in the memory format; others as they are.

        Args:
            value: A tensor, or anything else.
        """
        if not isinstance(value, Tensor) or value.dim() not in _CHANNELS_LAST:
            return value
        is_last = self.memory_format == "channels_last"
        layout = _CHANNELS_LAST[value.dim()] if is_last else torch.contiguous_format
        return value.contiguous(memory_format=layout)

    def __str__(self) -> str:
        return f"{self.precision} {self.memory_format}"

    @classmethod
    def parse(cls, text: str) -> ComputeFormat:
        """Read back what `str` gives.

        Raises:
            ValueError: If it is something else.
        """
        parts = text.split() if isinstance(text, str) else []
        known = ("fp32", "bf16"), ("contiguous", "channels_last")
        if len(parts) != 2 or any(p not in names for p, names in zip(parts, known, strict=True)):
            raise ValueError(
                f"a format must be fp32 or bf16, then contiguous or channels_last, got {text!r}"
            )
        return cls(*parts)


PLAIN = ComputeFormat("fp32", "contiguous")
"""The weights' own format, which every machine computes as fast as it can."""
CHANNELS_LAST = ComputeFormat("fp32", "channels_last")
"""The same with the channels last."""


def is_channels_last(tensor: Tensor) -> bool:
    """Whether images, clips or weights of convolutions have their channels last in memory.

    Tensors that are contiguous too do not count.
    """
    layout = _CHANNELS_LAST.get(tensor.dim())
    return (
        layout is not None
        and tensor.is_contiguous(memory_format=layout)
        and not tensor.is_contiguous()
    )


def autocast_to(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast inside the block.

    Args:
        dtype: Such as torch.bfloat16; None leaves the weights' own.
        device: Where it is computed.
    """
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
