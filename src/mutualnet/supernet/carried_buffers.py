"""Statistics that are no BatchNorm's: what train mode writes to, and calibration does not renew."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from mutualnet.messages import first_line
from mutualnet.module_state import mode_of
from mutualnet.supernet.channel_plan import ChannelPlan

logger = logging.getLogger(__name__)

_NORMS = {
    "aten::native_batch_norm",
    "aten::_native_batch_norm_legit",
    "aten::_batch_norm_with_update",
    "aten::cudnn_batch_norm",
    "aten::miopen_batch_norm",
}
"""Operations that write to their running statistics, which leaves no trace."""


class _Norms(TorchDispatchMode):
    """Notes the running statistics that normalisations write to, by their addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.written: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in _NORMS:
            self.written |= {id(statistic) for statistic in args[3:5]}
        return func(*args, **(kwargs or {}))


def carried_buffers(model: nn.Module, inputs: Any, plan: ChannelPlan) -> tuple[str, ...]:
    """Names of narrowed buffers outside of BatchNorm layers that a pass in train mode writes to.

    Such are the running statistics of an instance norm or of a functional batch norm, and the
    vectors of spectral norm.

    Args:
        model: The copy that was followed. Its buffers change.
        inputs: What it was followed with.
        plan: Which of its buffers are narrowed.
    """
    norms = tuple(f"{n}." for n, m in model.named_modules() if isinstance(m, _BatchNorm))
    found = {
        name: (buffer, buffer._version)
        for name, buffer in model.named_buffers()
        if name in plan.tensors and not name.startswith(norms)
    }
    if not found:
        return ()
    with mode_of(model, True), torch.no_grad(), _Norms() as seen:
        try:
            model(inputs)
        except Exception as problem:  # whatever a stranger's model raises
            logger.debug("no pass in train mode: %s", first_line(problem))
    after = dict(model.named_buffers())

    def is_written(name: str, buffer: Tensor, version: int) -> bool:
        is_replaced = after.get(name) is not buffer
        return is_replaced or buffer._version != version or id(buffer) in seen.written

    return tuple(name for name, known in found.items() if is_written(name, *known))
