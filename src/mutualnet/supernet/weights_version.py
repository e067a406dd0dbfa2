"""When did the weights change? A count of what optimizers and edits do to one model."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook


class WeightsVersion:
    """Counts the optimizer steps that touch one model, because fused ones leave no other trace."""

    _live: ClassVar[weakref.WeakSet[WeightsVersion]] = weakref.WeakSet()
    _watching: ClassVar[bool] = False

    def __init__(self, model: nn.Module) -> None:
        self.count = 0
        """Optimizer steps and declared edits so far."""
        self._model = weakref.ref(model)
        WeightsVersion._live.add(self)
        if not WeightsVersion._watching:
            # PyTorch offers step hooks for one known optimizer or for all; ours come from users.
            register_optimizer_step_post_hook(_count_step)
            WeightsVersion._watching = True

    def current(self) -> int:
        """A number that changes when the model's weights do: by a step, in place, or replaced."""
        model = self._model()
        assert model is not None  # the supernet owns both
        parameters = list(model.parameters())
        # A replaced parameter has another identity, one changed in place another version.
        return hash((self.count, sum(p._version for p in parameters), sum(map(id, parameters))))

    def storages(self) -> set[int]:
        """Addresses of the weights' storages."""
        model = self._model()
        parameters = model.parameters() if model is not None else ()
        return {p.untyped_storage().data_ptr() for p in parameters}


def _count_step(optimizer: Optimizer, *_: Any) -> None:
    touched = {
        parameter.untyped_storage().data_ptr()
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for version in list(WeightsVersion._live):
        if touched & version.storages():
            version.count += 1
