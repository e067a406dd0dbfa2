"""What of a module changes inside of a block alone: its mode, and BN's running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@contextmanager
def kept_running_statistics(module: nn.Module) -> Iterator[None]:
    """Let a second pass over the same images leave no trace in the running statistics.

    Every BN still normalises as its train or eval mode says.

    Args:
        module: Its BN layers are meant.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, *(getattr(norm, name) for name in _STATISTICS)) for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
            # They are written in place; of infinite ones a share of 0 is not a number.
            for name in _STATISTICS:
                value = getattr(norm, name)
                if value is not None:
                    setattr(norm, name, value.clone())
        yield
    finally:
        for norm, values in zip(norms, before, strict=True):
            for name, value in zip(("momentum", *_STATISTICS), values, strict=True):
                setattr(norm, name, value)


@contextmanager
def mode_of(model: nn.Module, training: bool) -> Iterator[nn.Module]:
    """Put every module in train or eval mode inside the block, and back to its own after it."""
    previous = {module: module.training for module in model.modules()}
    try:
        yield model.train(training)
    finally:
        for module, was_training in previous.items():
            module.training = was_training
