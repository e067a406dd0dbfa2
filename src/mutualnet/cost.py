"""What a sub-network costs: multiply-adds and parameters counted, latency measured.

Convention: MACs are the multiply-adds of convolutions and linear layers for one image; biases,
normalisation, activations and pooling are not counted. 1 MAC = 2 FLOPs; what papers print as
"FLOPs" are usually MACs.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchvision  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from mutualnet.precision import CHANNELS_LAST, autocast_to, is_channels_last
from mutualnet.space import Subnet
from mutualnet.supernet import Products, Supernet, find_products, index_length, is_inside


class CostModel:
    """Counts multiply-adds and parameters of any sub-network without running it.

    A copy without values runs once per resolution and number of frames to learn which products of
    weights there are, those of functional calls included; after that a sub-network costs as long as
    its channel lists take to make.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet
        self._products: dict[tuple[int, int | None], Products] = {}

    def macs(self, subnet: Subnet) -> int:
        """Multiply-adds of the convolutions and linear layers for one image or clip.

        Of a network with a counted part, such as a detector's backbone, they are that part's.

        Raises:
            ValueError: If the sub-network lies outside the space.
        """
        supernet, key = self._supernet, (subnet.resolution, subnet.num_frames)
        counts = supernet.counts(subnet)
        if key not in self._products:
            self._products[key] = find_products(
                supernet.model,
                supernet.plan,
                supernet.example_input(subnet),
                part=supernet.elastic_part,
                counted=supernet.counted_part,
            )
        return self._products[key].macs(counts, supernet.removed(subnet))

    def params(self, subnet: Subnet) -> int:
        """Parameters of the sub-network, BN's scale and shift included.

        Raises:
            ValueError: If the sub-network lies outside the space.
        """
        return sum(self._sizes(subnet).values())

    def _sizes(self, subnet: Subnet) -> dict[str, int]:
        plan = self._supernet.plan
        kept = plan.indices(self._supernet.counts(subnet))
        removed = self._supernet.removed(subnet)
        sizes = {}
        for name, parameter in self._supernet.model.named_parameters():
            if is_inside(name, removed):
                continue
            shape = list(parameter.shape)
            for dim, index in kept.get(name, {}).items():
                shape[dim] = index_length(index)
            sizes[name] = int(np.prod(shape, dtype=np.int64))
        return sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Measured time of one forward pass, with the circumstances that make it repeatable."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    runs: int
    """Timed passes, after the warm-up."""
    batch_size: int
    dtype: str
    device: str
    threads: int
    versions: tuple[tuple[str, str], ...]
    """Library and version, the processor among them."""


def measure_latency(
    module: nn.Module,
    inputs: Any,
    *,
    warmup: int = 5,
    runs: int = 30,
    autocast: torch.dtype | None = None,
) -> Latency:
    """Time forward passes of a module on its own device, in eval mode and without gradients.

    Args:
        module: An extracted sub-network: views and switching would be timed along.
        inputs: What the module is called with: a tensor (N, ...), a tuple of such, a list of N
            tensors, or a shape (N, C, H, W), for which zeros are made. They are brought to the
            weights' device, dtype and memory format; a module without weights takes them as they
            are.
        warmup: Passes before timing starts.
        runs: Timed passes.
        autocast: Precision of the passes, None for the weights' own.

    Raises:
        ValueError: If `warmup` is negative or `runs` below 1.
    """
    if warmup < 0 or runs < 1:
        raise ValueError(f"warmup must be >= 0 and runs >= 1, got {warmup} and {runs}")
    if isinstance(inputs, Sequence) and all(isinstance(size, int) for size in inputs):
        inputs = torch.zeros(tuple(inputs))
    values = (*module.parameters(), *module.buffers(), *tree_leaves(inputs), torch.empty(0))
    first = next(v for v in values if isinstance(v, Tensor) and v.is_floating_point())
    is_last = any(map(is_channels_last, module.parameters()))

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.to(first.device, first.dtype if value.is_floating_point() else value.dtype)
        return CHANNELS_LAST.arranged(value) if is_last else value

    inputs = tree_map(placed, inputs)
    modes = [(m, m.training) for m in module.modules()]
    precision = autocast_to(autocast, first.device)
    times: list[float] = []
    try:
        module.eval()
        with torch.inference_mode(), precision:
            for number in range(warmup + runs):
                start = time.perf_counter()
                module(inputs)
                wait_for(first.device)
                if number >= warmup:
                    times.append(1e3 * (time.perf_counter() - start))
    finally:
        for part, was_training in modes:
            part.training = was_training
    p50, p90, p99 = np.percentile(times, (50, 90, 99))
    return Latency(
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        runs=runs,
        batch_size=_batch_size(inputs),
        dtype=str(autocast or first.dtype).removeprefix("torch."),
        **latency_circumstances(first.device),
        versions=(
            ("python", platform.python_version()),
            ("torch", str(torch.__version__)),
            ("torchvision", str(torchvision.__version__)),
        ),
    )


def wait_for(device: torch.device) -> None:
    """Return once an accelerator of any kind has done all that it was asked for."""
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is not None and accelerator.type == device.type:
        torch.accelerator.synchronize(device)


def _batch_size(inputs: Any) -> int:
    if isinstance(inputs, list):
        return len(inputs)
    return len(next(value for value in tree_leaves(inputs) if isinstance(value, Tensor)))


def latency_circumstances(device: torch.device) -> dict[str, Any]:
    """What times in one table must have in common: the device's name and the threads."""
    return {"device": _device_name(device), "threads": torch.get_num_threads()}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
    return device.type
