"""Several processes that train one network: who they are, and what they tell each other.

No wrapper around the model: gradients of all sub-networks add up in each process, and one
all-reduce averages them when the step has all of them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_T = TypeVar("_T")
_groups = itertools.count()
"""Numbers of the groups that processes have formed, which do so together."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where this process stands among all of them."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Processes."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0


def current_ranks() -> Ranks:
    """This process among those of torch's process group; alone if there is none."""
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


def training_device() -> torch.device:
    """The accelerator of this process, by its number on its machine, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    environment = _launcher()
    local_rank = environment.local_rank() if environment is not None else 0
    # A launcher may show each process its own accelerator alone.
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def _launcher() -> Any:
    """What started several processes, by its environment variables; None if nothing did."""
    from lightning.fabric.plugins.environments import (  # slow to import, for training alone
        SLURMEnvironment,
        TorchElasticEnvironment,
    )

    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    # Inside of a batch job, but not started by srun, a process is alone whatever the job has.
    if "SLURM_STEP_ID" in os.environ and SLURMEnvironment.detect():
        try:
            return SLURMEnvironment()
        except RuntimeError as error:
            raise ValueError(f"SLURM's settings do not fit: {error}") from None
    return None


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Join the other processes that torchrun or SLURM started, inside the block.

    Nothing happens where this process is alone, or where a group exists already.
    """
    environment = _launcher()
    if environment is None or environment.world_size() == 1 or dist.is_initialized():
        yield current_ranks()
        return
    device = training_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    from torch.distributed.rendezvous import rendezvous  # absent where torch lacks `distributed`

    rank, size = environment.global_rank(), environment.world_size()
    store, *_ = next(rendezvous("env://", rank, size))
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        # What an earlier group of these processes left in the store is not for this one.
        store=dist.PrefixStore(f"group {next(_groups)}", store),
        rank=rank,
        world_size=size,
    )
    try:
        yield current_ranks()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def average_gradients(model: nn.Module, *more: Tensor) -> None:
    """Replace every gradient, and the running statistics of BN, by the mean over all processes.

    One all-reduce for everything of one dtype. Call it once, after the last backward pass of a
    step, in every process; it returns at once where there is only one.

    Args:
        model: Its gradients must exist for the same parameters in every process.
        more: Other tensors to average on the way, in place.
    """
    if current_ranks().size == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    # The statistics of the full network follow each process's own images otherwise.
    buffers = [b for b in model.buffers() if b.is_floating_point()]
    _average([*gradients, *buffers, *more])


def _average(tensors: Iterable[Tensor]) -> None:
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype, []).append(tensor)
    for group in by_dtype.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in group])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for tensor, values in zip(group, flat.split([t.numel() for t in group]), strict=True):
            tensor.copy_(values.view(tensor.shape))


def broadcast_model(model: nn.Module) -> None:
    """Give every process the first one's weights and buffers."""
    if current_ranks().size == 1:
        return
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            values = tensor.contiguous()
            dist.broadcast(values, 0)
            tensor.copy_(values)


def synchronise_norms(model: nn.Module) -> nn.Module:
    """The model with every BN taking its batch statistics over all processes.

    Weights, statistics and their names stay. Some of timm's BNs hold their activation, which
    torch's own conversion would drop.
    """
    return convert_sync_batchnorm(model)  # type: ignore[no-any-return]


def keep_to_own_batch(norm: nn.Module) -> None:
    """Let a BN that is synchronised take its statistics of this process's batches alone, for good.

    It then runs any number of times, whatever others do. Other layers stay as they are.
    """
    if isinstance(norm, nn.SyncBatchNorm):
        kind: Any = type(norm)
        norm.__class__ = _own_batch_kind(kind)


class _OwnBatchNorm(nn.SyncBatchNorm):
    def forward(self, x: Tensor) -> Tensor:
        return _BatchNorm.forward(self, x)


@cache
def _own_batch_kind(kind: Any) -> type[nn.SyncBatchNorm]:
    # Last but torch's in the order of classes: timm's runs its activation after what comes next.
    bases = (_OwnBatchNorm,) if kind is nn.SyncBatchNorm else (kind, _OwnBatchNorm)
    return type(f"OwnBatch{kind.__name__}", bases, {})


def from_first(value: _T) -> _T:
    """What the first process has, in every process."""
    if current_ranks().size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


def gather(value: _T) -> list[_T]:
    """What every process has, in the order of their numbers, in every process."""
    size = current_ranks().size
    if size == 1:
        return [value]
    values: list[Any] = [None] * size
    dist.all_gather_object(values, value)
    return values


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum over all processes, on the tensor's device."""
    if current_ranks().size == 1:
        return tensor
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    total = tensor.to(device, copy=True)
    dist.all_reduce(total)
    return total.to(tensor.device)
