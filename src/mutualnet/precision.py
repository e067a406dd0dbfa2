"""Number formats and memory layouts: what a block is computed in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch


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

    @property
    def layout(self) -> torch.memory_format:
        """PyTorch's name of the memory format."""
        is_last = self.memory_format == "channels_last"
        return torch.channels_last if is_last else torch.contiguous_format

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


def autocast_to(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast inside the block.

    Args:
        dtype: Such as torch.bfloat16; None leaves the weights' own.
        device: Where it is computed.
    """
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
