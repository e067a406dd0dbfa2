"""Compute a block in another number format than the weights have."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def autocast_to(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast inside the block.

    Args:
        dtype: Such as torch.bfloat16; None leaves the weights' own.
        device: Where it is computed.
    """
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
