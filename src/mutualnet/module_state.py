"""What of a module changes inside of a block alone: its mode, and BN's running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def kept_running_statistics(module: nn.Module) -> Iterator[None]:
    """Let a second pass over the same images leave no trace in the running statistics.

    Every BN still normalises as its train or eval mode says.

    Args:
        module: Its BN layers are meant.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
            if norm.num_batches_tracked is not None:  # it is counted up in place
                norm.num_batches_tracked = norm.num_batches_tracked.clone()
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


@contextmanager
def mode_of(model: nn.Module, training: bool) -> Iterator[nn.Module]:
    """Put every module in train or eval mode inside the block, and back to its own after it."""
    previous = {module: module.training for module in model.modules()}
    try:
        yield model.train(training)
    finally:
        for module, was_training in previous.items():
            module.training = was_training
