"""BN calibration: the statistics of many sub-networks from one pass over some training images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mutualnet.batch_checks import NonFiniteImagesError, is_finite
from mutualnet.distributed import current_ranks, gather, keep_to_own_batch, sum_over_ranks
from mutualnet.precision import autocast_to
from mutualnet.space import Subnet
from mutualnet.supernet import BankKey, BNStatistics, Supernet, tracked_norms
from mutualnet.tasks.base import Task
from mutualnet.tasks.scaling import ScaledBatch

logger = logging.getLogger(__name__)


class StatisticsPool:
    """Count, sum and sum of squares per channel, from means and variances of batches."""

    def __init__(self, num_channels: int) -> None:
        self.count = torch.zeros(num_channels, dtype=torch.float64)
        self.total = torch.zeros(num_channels, dtype=torch.float64)
        self.squares = torch.zeros(num_channels, dtype=torch.float64)

    def add(self, mean: Tensor, var: Tensor, count: Tensor, at: slice = slice(None)) -> None:
        """Take in one batch.

        Args:
            mean: (C,) of the batch.
            var: (C,) of the batch, unbiased.
            count: (C,) values per channel that they are over.
            at: Which of the pool's channels they are.
        """
        mean, var = mean.double(), var.double()
        self.count[at] += count
        self.total[at] += count * mean
        self.squares[at] += var * (count - 1).clamp(min=0) + count * mean.square()

    def mean(self) -> Tensor:
        """(C,) float32 mean over everything seen."""
        return (self.total / self.count.clamp(min=1)).float()

    def var(self) -> Tensor:
        """(C,) float32 unbiased variance over everything seen."""
        mean = self.total / self.count.clamp(min=1)
        spread = (self.squares - self.count * mean.square()).clamp_(min=0)
        var = spread / (self.count - 1).clamp(min=1)
        return torch.where(self.count > 0, var, 1.0).float()  # nothing seen: as BN starts


class _Calibrated:
    """One sub-network whose BN layers hold the last batch's statistics."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module.eval()
        self.norms: list[_BatchNorm] = [norm for _, norm in tracked_norms(module)]
        sizes = [norm.num_features for norm in self.norms]
        ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
        self._places = {
            norm: slice(*place) for norm, place in zip(self.norms, pairwise(ends), strict=True)
        }
        device = next(iter(module.parameters())).device
        self.pool = StatisticsPool(sum(sizes))
        for norm, size in zip(self.norms, sizes, strict=True):
            # Processes have different numbers of batches, and wait for each other in vain.
            keep_to_own_batch(norm)
            norm.train()
            norm.momentum = 1.0  # running statistics become those of the last batch
            dtype = norm.running_mean.dtype  # type: ignore[union-attr]
            norm.running_mean = torch.zeros(size, device=device, dtype=dtype)
            norm.running_var = torch.ones(size, device=device, dtype=dtype)

    def run(self, task: Task, batch: Any) -> None:
        """Run one scaled batch and pool its statistics."""
        counts = torch.zeros(len(self.pool.count), dtype=torch.float64)  # a layer may not run

        def count(norm: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            at = self._places[norm]  # type: ignore[index]
            if counts[at].any():  # it ran before in this pass, and its statistics are about to go
                self.pool.add(*_statistics([norm]), counts[at], at)  # type: ignore[list-item]
            values = args[0] if args else next(iter(named.values()))
            counts[at] = values.numel() // values.shape[1]

        handles = [norm.register_forward_pre_hook(count, with_kwargs=True) for norm in self.norms]
        try:
            task.run(self.module, batch)
        finally:
            for handle in handles:
                handle.remove()
        if self.norms:
            self.pool.add(*_statistics(self.norms), counts)


def _statistics(norms: Sequence[_BatchNorm]) -> tuple[Tensor, Tensor]:
    """(C,) means and variances of all layers, one after the other, on the CPU."""
    means = [norm.running_mean for norm in norms if norm.running_mean is not None]
    variances = [norm.running_var for norm in norms if norm.running_var is not None]
    return torch.cat(means).cpu(), torch.cat(variances).cpu()


def _over_ranks(running: dict[BankKey, _Calibrated], seen: int, batch_size: int) -> tuple[int, int]:
    """Sum the pools of all processes; return the images seen and the size of their batches."""
    if current_ranks().size == 1:
        return seen, batch_size
    for calibrated in running.values():
        pool = calibrated.pool
        total = sum_over_ranks(torch.stack([pool.count, pool.total, pool.squares]))
        pool.count, pool.total, pool.squares = total.unbind()
    counts = gather((seen, batch_size))
    return sum(seen for seen, _ in counts), max(size for _, size in counts)


def calibrate(
    supernet: Supernet,
    batches: Iterable[Any],
    subnets: Sequence[Subnet],
    *,
    task: Task,
    data_id: str,
    num_samples: int = 2048,
    autocast: torch.dtype | None = None,
) -> None:
    """Fill the BN bank for many sub-networks, loading each batch once.

    Every batch is normalised by its own statistics, as in training, in every sub-network; means and
    variances are then pooled exactly over all values seen, so the order of the batches does not
    matter. Their size does, and is stored. Other layers run as in eval mode.

    Of several processes each reads batches of its own, and all get the statistics of everything. BN
    that is synchronised in training is not here.

    Args:
        supernet: Whose bank is filled. Its model is not changed.
        batches: Training batches at the top resolution, all of one size; a smaller last one is left
            out. Read no further than needed.
        subnets: Which sub-networks.
        task: Scales a batch.
        data_id: Hash that names the data in the bank.
        num_samples: Images to use over all processes; whole batches, at least one.
        autocast: Precision of the forward passes, None for the weights' own.

    Raises:
        ValueError: If there is no batch, a batch of one image, a count below 2, or an image with a
            value that is not finite, which would spoil the statistics of all.

    Source: Yu & Huang 2019, https://arxiv.org/abs/1903.05134, section 3.3.
    Differs: the released codes average batch variances, which leaves out the spread of batch means.
    """
    if num_samples < 2:
        raise ValueError(f"num_samples must be >= 2, got {num_samples}")
    todo = supernet.distinct(subnets)
    if not tracked_norms(supernet.model):
        logger.info("the model has no BN layers with running statistics: nothing to calibrate")
        return
    version = supernet.weights_version
    device = next(supernet.model.parameters()).device
    running = {key: _Calibrated(supernet.subnet(subnet)) for key, subnet in todo.items()}
    seen, batch_size, ranks = 0, 0, current_ranks()
    with torch.no_grad():
        for number, batch in enumerate(batches):
            batch = task.batch_to(batch, device)
            size = task.num_samples(batch)
            if batch_size == 0:
                batch_size = size
                if size < 2:
                    raise ValueError("calibration needs batches of at least 2 images, got 1")
            # This batch is the number-th of this process; those before it number times as many.
            behind = (number * ranks.size + ranks.rank) * batch_size
            if size != batch_size or (behind and behind + batch_size > num_samples):
                break  # the last, smaller one, or enough
            if not is_finite(task.inputs(batch)):
                raise NonFiniteImagesError(
                    f"calibration needs images of finite numbers, got others in batch {number}. "
                    "Repair the data or its transform."
                )
            scaled = ScaledBatch(task, batch)
            for key, subnet in todo.items():
                with autocast_to(autocast, device):
                    running[key].run(task, scaled.at(subnet))
            seen += size
            if behind + (ranks.size + 1) * batch_size > num_samples:
                break
    seen, batch_size = _over_ranks(running, seen, batch_size)
    if seen == 0:
        raise ValueError("calibration needs at least one batch, got none. Is the data set empty?")
    if seen + batch_size <= num_samples:
        logger.warning("calibrated on %d images, all there are, not %d", seen, num_samples)
    for key, calibrated in running.items():
        statistics = BNStatistics(
            mean=calibrated.pool.mean(),
            var=calibrated.pool.var(),
            num_samples=seen,
            batch_size=batch_size,
            data_id=data_id,
            weights_version=version,
        )
        supernet.bank.put(key, statistics)
