"""When did the weights change? A count of what optimizers and edits do to one model."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook as register_post_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook as register_pre_hook

__all__ = ["WeightClock"]


class WeightClock:
    """Counts the optimizer steps that touch one model, because fused ones leave no other trace."""

    _live: ClassVar[weakref.WeakSet[WeightClock]] = weakref.WeakSet()
    _watching: ClassVar[bool] = False

    def __init__(self, model: nn.Module) -> None:
        self.ticks = 0
        self._model = weakref.ref(model)
        WeightClock._live.add(self)
        if not WeightClock._watching:
            # PyTorch offers step hooks for one known optimizer or for all; ours come from users.
            register_pre_hook(_refuse_unfit)
            register_post_hook(_tick_clocks)
            WeightClock._watching = True

    def version(self) -> int:
        """A number that changes when the model's weights do: by a step, in place, or replaced."""
        model = self._model()
        assert model is not None  # the supernet owns both
        parameters = list(model.parameters())
        # A replaced parameter has another identity, one changed in place another version.
        return hash((self.ticks, sum(p._version for p in parameters), sum(map(id, parameters))))

    def storages(self) -> set[int]:
        """Addresses of the weights' storages."""
        model = self._model()
        parameters = model.parameters() if model is not None else ()
        return {p.untyped_storage().data_ptr() for p in parameters}


def _tick_clocks(optimizer: Optimizer, *_: Any) -> None:
    touched = {
        parameter.untyped_storage().data_ptr()
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for clock in list(WeightClock._live):
        if touched & clock.storages():
            clock.ticks += 1


def _is_one_block(parameter: nn.Parameter) -> bool:
    """Whether a parameter fills its memory without gaps."""
    is_last = parameter.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    return parameter.is_contiguous() or is_last


def _refuse_unfit(optimizer: Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            route = getattr(parameter, "_gradient_route", None)
            if route is None or route.is_cut:
                continue
            if group.get("fused") and not _is_one_block(parameter):
                raise RuntimeError(
                    f"a fused optimizer must not hold {route.name!r} of a sub-network: it takes a "
                    "parameter for one block of memory, and a view into a wider one is not. Pass "
                    "foreach=True instead of fused=True, or optimize the supernet's parameters()."
                )
            if route.is_gathered:
                raise RuntimeError(
                    f"an optimizer must not hold {route.name!r} of a sub-network: behind a "
                    "concatenation it is a copy, and the step would be lost. Optimize the "
                    "supernet's parameters(), or extract() the sub-network first."
                )
