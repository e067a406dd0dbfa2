"""What it costs to change the sub-network, to make a new one, and to hold many."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
import timm
import torch
from torch import nn

from benchmarks.timing import seconds_of
from mutualnet.calibration import calibrate
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet import Supernet, tracked_norms
from mutualnet.tasks.classification import Classification


def switch_ratio(build: Callable[[], nn.Module], *, configs: int = 20, rounds: int = 7) -> float:
    """Median first inference after a switch over the median steady one, configurations interleaved.

    Every sub-network exists beforehand, as in a server. Each round visits all of them in random
    order and runs each four times: the first pass follows a switch, the others are steady.
    """
    supernet = Supernet(build(), ElasticSpace())
    grid = supernet.space.grid()
    chosen = [grid[i] for i in np.linspace(0, len(grid) - 1, configs).round().astype(int)]
    noise = [(torch.randn(2, 3, 224, 224), torch.zeros(2, dtype=torch.long))]
    task = Classification()
    calibrate(supernet, noise, chosen, task=task, data_id="noise", num_samples=2)
    modules = [supernet.subnet(subnet).eval() for subnet in chosen]
    images = [torch.randn(1, 3, s.resolution, s.resolution) for s in chosen]
    rng = np.random.default_rng(0)
    first: list[list[float]] = [[] for _ in chosen]
    steady: list[list[float]] = [[] for _ in chosen]
    with torch.inference_mode():
        for round_number in range(rounds + 1):
            for i in rng.permutation(len(chosen)):
                times = [seconds_of(partial(modules[i], images[i])) for _ in range(4)]
                if round_number:  # the first round builds kernels
                    first[i].append(times[0])
                    steady[i].extend(times[1:])
    ratios = [np.median(a) / np.median(b) for a, b in zip(first, steady, strict=True)]
    return float(np.median(ratios))


def creation_ms(build: Callable[[], nn.Module]) -> tuple[float, float]:
    """Seconds to trace a model, and median milliseconds to make a sub-network of a new width."""
    model = build()
    space = ElasticSpace()
    trace_s = seconds_of(lambda: Supernet(model, space))
    supernet = Supernet(model, space)
    widths = np.linspace(0.3, 0.95, 14)
    wanted = [Subnet(width_mult=float(width)) for width in widths]
    times = [1e3 * seconds_of(partial(supernet.subnet, subnet)) for subnet in wanted]
    return trace_s, float(np.median(times))


def memory_of_64() -> dict[str, float]:
    """What 64 sub-networks of MobileNet v1 add to the weights, the bank and Python's heap."""
    supernet = Supernet(timm.create_model("mobilenetv1_100"), ElasticSpace())
    grid = supernet.space.grid()
    storages = {p.untyped_storage().data_ptr() for p in supernet.parameters()}
    supernet.subnet(grid[0])
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    modules = [supernet.subnet(subnet) for subnet in grid]
    gc.collect()
    python = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    added = {
        p.untyped_storage().data_ptr(): p.untyped_storage().nbytes()
        for module in modules
        for p in module.parameters()
        if p.untyped_storage().data_ptr() not in storages
    }
    buffers = sum(b.numel() * b.element_size() for module in modules for b in module.buffers())
    channels = sum(norm.num_features for module in modules for _, norm in tracked_norms(module))
    return {
        "weight_bytes_added": float(sum(added.values())),
        "python_mib_per_module": python / len(modules) / 2**20,
        "buffer_mib": buffers / 2**20,
        "bank_mib": 8 * channels / 2**20,
    }
