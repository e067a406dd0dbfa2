"""Which widths and resolutions to train, for budgets that are known beforehand."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from mutualnet.budget import Budget
from mutualnet.cost import CostModel, measure_latency
from mutualnet.numbers import in_digits
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet import Supernet

logger = logging.getLogger(__name__)

_NEAR = 0.8
"""Sub-networks with at least this share of the most multiply-adds that fit are as good."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What would run within one budget."""

    budget: Budget
    subnet: Subnet
    macs: int
    latency_ms: float
    """Median of one image at a time, on this machine."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A space to train, and what of it meets each budget."""

    space: ElasticSpace
    choices: tuple[Choice, ...]


def propose_space(
    build: Callable[[], nn.Module],
    budgets: Sequence[Budget],
    *,
    resolutions: Sequence[int],
    lowest_width: float = 0.1,
    width_step: float = 0.1,
    runs: int = 10,
) -> Proposal:
    """Time narrow networks, untrained, and find the smallest space that meets all budgets.

    For each budget the sub-network with the most multiply-adds within it is taken, and of those
    nearly as large the one whose width and resolution shrink most alike, as the best ones of the
    MutualNet paper's table do.

    Args:
        build: Makes the network.
        budgets: Multiply-adds or latency of one image.
        resolutions: Sides of the inputs to consider, in pixels.
        lowest_width: Narrowest width multiplier to consider.
        width_step: Step between widths.
        runs: Timed passes per sub-network.

    Raises:
        ValueError: If there is no budget, or one is below the smallest sub-network. It says what
            that takes.
    """
    if not budgets:
        raise ValueError("budgets must name at least one, such as parse_budget('150M'), got none")
    space = ElasticSpace(
        width_range=(lowest_width, 1.0), resolutions=tuple(resolutions), width_step=width_step
    )
    supernet = Supernet(build().eval(), space)
    costs = CostModel(supernet)
    grid = space.grid()
    macs = {subnet: costs.macs(subnet) for subnet in grid}
    latency = {subnet: _latency_ms(supernet, subnet, runs) for subnet in grid}
    choices = []
    for budget in budgets:
        fitting = [s for s in grid if budget.fits(macs[s], latency[s])]
        if not fitting:
            least = min(grid, key=lambda s: macs[s] if budget.macs else latency[s])
            raise ValueError(
                f"no sub-network fits {budget}: the smallest, {least}, takes "
                f"{in_digits(macs[least] / 1e6, 4)}M multiply-adds and "
                f"{in_digits(latency[least], 3)} ms. Add lower --resolutions, "
                "or choose a smaller network."
            )
        most = max(macs[subnet] for subnet in fitting)
        near = [subnet for subnet in fitting if macs[subnet] >= _NEAR * most]
        best = min(near, key=lambda s: (_imbalance(s, space), -macs[s]))
        choices.append(
            Choice(budget=budget, subnet=best, macs=macs[best], latency_ms=latency[best])
        )
    widths = [choice.subnet.width_mult for choice in choices]
    sides = {choice.subnet.resolution for choice in choices}
    proposed = ElasticSpace(
        width_range=(min(widths), max(widths)),
        resolutions=tuple(side for side in space.resolutions if min(sides) <= side <= max(sides)),
    )
    return Proposal(space=proposed, choices=tuple(choices))


def _imbalance(subnet: Subnet, space: ElasticSpace) -> float:
    """How differently width and resolution shrink, 0 for alike; rounded, so that ties are ties."""
    share = subnet.resolution / space.resolutions[0]
    return round(abs(math.log(subnet.width_mult) - math.log(share)), 2)


def _latency_ms(supernet: Supernet, subnet: Subnet, runs: int) -> float:
    module = supernet.extract(subnet, uncalibrated=True)
    return measure_latency(module, supernet.example_input(subnet), warmup=3, runs=runs).p50_ms
