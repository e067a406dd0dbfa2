"""What a training run would take, from a few of its steps."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from mutualnet.config import Recipe
from mutualnet.cpu import peak_memory_mib
from mutualnet.distributed import training_device
from mutualnet.precision import ComputeFormat
from mutualnet.training.module import TrainingModule
from mutualnet.training.setup import set_up_training


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a training run would take."""

    seconds_per_step: float
    num_steps: int
    seconds: float
    """To the end of training."""
    peak_memory_mib: float
    disk_mib: float
    """Weights, the two last checkpoints, and the BN bank of the whole grid."""
    compute_format: ComputeFormat


def dry_run(
    recipe: Recipe, *, steps: int = 6, limit_steps: int | None = None, trust: bool = False
) -> DryRun:
    """Take a few real steps, loading included, and tell what the whole run would take.

    Nothing is written.

    Args:
        recipe: What would be trained.
        steps: Steps to take; the first is not timed.
        limit_steps: Most steps of the run.
        trust: As for `train`.
    """
    setup = set_up_training(recipe, limit_steps=limit_steps, trust=trust)
    module = TrainingModule(setup)
    num_steps = setup.batches.stop
    setup.batches.stop = min(steps, num_steps)
    device = training_device()
    times: list[float] = []
    start = time.perf_counter()
    for step, batch in enumerate(setup.loader()):
        module.take_step(setup.task.batch_to(batch, device), step)
        float(next(iter(module.last_losses.values())))
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    seconds = float(np.mean(times[1:] or times or [0.0]))
    values = module.networks.state_dict()
    weights = sum(v.numel() * v.element_size() for v in values.values())
    norms = sum(v.numel() for name, v in values.items() if "running" in name)
    # What optimizers remember differs; after a few steps it is all there.
    tensors = [value for value in tree_leaves(module.state()) if isinstance(value, Tensor)]
    checkpoints = 2 * sum(value.numel() * value.element_size() for value in tensors)
    on_disk = weights + checkpoints + 4 * norms * len(recipe.space.grid())
    is_cuda = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if is_cuda else peak_memory_mib()
    return DryRun(
        seconds_per_step=seconds,
        num_steps=num_steps,
        seconds=seconds * num_steps,
        peak_memory_mib=peak,
        disk_mib=on_disk / 2**20,
        compute_format=setup.compute_format,
    )
