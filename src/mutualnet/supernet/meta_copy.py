"""A copy of a model that runs for its shapes only: no values, and the user's model untouched."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from mutualnet.messages import first_line
from mutualnet.supernet.narrow import OWN, detach_results


def meta_copy(model: nn.Module, example: Any) -> tuple[nn.Module, Any]:
    """Copy a model onto the meta device, or truly where it does not run there.

    Args:
        model: Not changed.
        example: What it must run on: a tensor, or several in tuples and lists. Only shapes count.

    Returns:
        The copy in eval mode, all its parameters trainable, and an input of those shapes for it,
        in the number format of its weights: of two samples at most where there are values.

    Raises:
        ValueError: If the model does not run on those shapes anywhere.
    """
    first = next(model.parameters(), None)
    dtype = first.dtype if first is not None else torch.float32
    home = first.device if first is not None else torch.device("cpu")
    error: Exception | None = None
    for device in (torch.device("meta"), None):
        try:
            duplicate = _copy(model, device).eval()
            if device is None:
                # A pass with values is slow, so it has few samples; BN in train mode needs two.
                example = first_samples(example, 2)
            inputs = _zeros_like(example, dtype, device or home)
            with torch.no_grad():
                duplicate(inputs)
            return duplicate, inputs
        except Exception as problem:  # whatever a stranger's model raises
            error = problem
    shapes = [tuple(t.shape[1:]) for t in tree_leaves(example) if isinstance(t, Tensor)]
    kind = "clips" if any(len(shape) == 4 for shape in shapes) else "images"
    raise ValueError(
        f"the model must run on {kind} of shape {' and '.join(map(str, shapes))}, got "
        f"{type(error).__name__}: {first_line(error)}. Take another resolution, or "
        "pass example_input= of the right shape."
    )


def first_samples(example: Any, count: int) -> Any:
    """The first samples of what a network is called with."""
    return tree_map(lambda v: v[:count] if isinstance(v, Tensor) else v, example)


def _zeros_like(example: Any, dtype: torch.dtype, device: torch.device) -> Any:
    def zeros(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        kind = dtype if value.is_floating_point() else value.dtype
        return torch.zeros(value.shape, dtype=kind, device=device)

    return tree_map(zeros, example)


def _copy(model: nn.Module, device: torch.device | None) -> nn.Module:
    memo: dict[int, object] = {}
    if device is not None:
        for parameter in model.parameters():
            memo[id(parameter)] = nn.Parameter(
                torch.empty_like(parameter, device=device), requires_grad=False
            )
        for buffer in model.buffers():
            memo[id(buffer)] = torch.empty_like(buffer, device=device)
    for module in model.modules():
        detach_results([v for name, v in vars(module).items() if name not in OWN], memo)
    duplicate = copy.deepcopy(model, memo)
    for parameter in duplicate.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return duplicate
