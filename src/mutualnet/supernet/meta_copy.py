"""A copy of a model that runs for its shapes only: no values, and the user's model untouched."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mutualnet.messages import first_line


def meta_copy(model: nn.Module, input_shape: Sequence[int]) -> tuple[nn.Module, Tensor]:
    """Copy a model onto the meta device, or truly where it does not run there.

    Args:
        model: Not changed.
        input_shape: (N, C, H, W) it must run on.

    Returns:
        The copy in eval mode, all its parameters trainable, and an input of that shape for it.

    Raises:
        ValueError: If the model does not run on that shape anywhere.
    """
    first = next(model.parameters(), None)
    dtype = first.dtype if first is not None else torch.float32
    home = first.device if first is not None else torch.device("cpu")
    error: Exception | None = None
    for device in (torch.device("meta"), None):
        try:
            duplicate = _copy(model, device).eval()
            inputs = torch.zeros(tuple(input_shape), dtype=dtype, device=device or home)
            with torch.no_grad():
                duplicate(inputs)
            return duplicate, inputs
        except Exception as problem:  # whatever a stranger's model raises
            error = problem
    raise ValueError(
        f"the model must run on images of shape {tuple(input_shape[1:])}, got "
        f"{type(error).__name__}: {first_line(error)}. Take another resolution, or "
        "pass example_input= of the right shape."
    )


def _copy(model: nn.Module, device: torch.device | None) -> nn.Module:
    memo: dict[int, object] = {}
    if device is not None:
        for parameter in model.parameters():
            memo[id(parameter)] = nn.Parameter(
                torch.empty_like(parameter, device=device), requires_grad=False
            )
        for buffer in model.buffers():
            memo[id(buffer)] = torch.empty_like(buffer, device=device)
    duplicate = copy.deepcopy(model, memo)
    for parameter in duplicate.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return duplicate
