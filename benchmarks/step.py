"""One mutual step against plain dense networks of the same shapes: the cost of our machinery."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import Ratio, paired, ratio_of
from mutualnet.losses import distillation_loss
from mutualnet.methods import SandwichRule
from mutualnet.models import wrn16_4
from mutualnet.sandwich import sandwich_step
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet import Supernet
from mutualnet.tasks.classification import Classification


@dataclass(frozen=True)
class Case:
    """A network, its batch and the step's configurations."""

    name: str
    build: Callable[[], nn.Module]
    space: ElasticSpace
    batch_size: int
    num_classes: int
    draw: tuple[Subnet, ...]
    limit: float
    num_draws: int = 100
    """Random draws to time."""


def _draw(*pairs: tuple[float, int]) -> tuple[Subnet, ...]:
    return tuple(Subnet(width_mult=w, resolution=r) for w, r in pairs)


_SMALL = ElasticSpace(width_range=(0.25, 1.0), resolutions=(32, 28, 24, 20))
_IMAGENET_DRAW = _draw((1.0, 224), (0.8, 192), (0.5, 160), (0.25, 128))

CASES = (
    Case(
        "MobileNet v1, batch 16 at 224",
        lambda: timm.create_model("mobilenetv1_100"),
        ElasticSpace(),
        16,
        1000,
        _IMAGENET_DRAW,
        1.03,
    ),
    Case(
        "WRN-16-4, batch 64 at 32",
        lambda: wrn16_4(100),
        _SMALL,
        64,
        100,
        _draw((1.0, 32), (0.8, 28), (0.5, 24), (0.25, 20)),
        1.03,
    ),
    Case(
        "ResNet-50, batch 8 at 224",
        lambda: timm.create_model("resnet50"),
        ElasticSpace(),
        8,
        1000,
        _IMAGENET_DRAW,
        1.05,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Prescaled(Classification):
    """Classification on inputs that were scaled beforehand, so that only the step is timed."""

    batches: dict[int, Any]

    def scale(self, batch: Any, subnet: Subnet) -> Any:
        """Look the ready-made batch up."""
        return self.batches[subnet.resolution]


def batches_of(case: Case, memory_format: torch.memory_format) -> dict[int, Any]:
    """One batch of noise at every resolution of the case."""
    generator = torch.Generator().manual_seed(0)
    top = case.space.resolutions[0]
    images = torch.randn(case.batch_size, 3, top, top, generator=generator)
    labels = torch.randint(case.num_classes, (case.batch_size,), generator=generator)
    task = Classification()
    return {
        side: (
            task.scale((images, labels), Subnet(resolution=side))[0].contiguous(
                memory_format=memory_format
            ),
            labels,
        )
        for side in case.space.resolutions
    }


def optimizer_of(parameters: Any) -> torch.optim.SGD:
    """The papers' optimizer. A small rate: noise must not make the weights diverge."""
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4)


def dense_step(
    networks: list[nn.Module],
    optimizer: torch.optim.Optimizer,
    inputs: list[Tensor],
    labels: Tensor,
) -> None:
    """The floor: the same passes, losses and optimizer step by plain contiguous networks."""
    for network in networks:
        network.zero_grad()
    teacher = None
    for network, images in zip(networks, inputs, strict=True):
        logits = network(images)
        if teacher is None:
            loss = F.cross_entropy(logits, labels)
            teacher = logits.detach()
        else:
            loss = distillation_loss(logits, teacher)
        loss.backward()
    optimizer.step()


def prepare(
    case: Case, memory_format: torch.memory_format = torch.contiguous_format
) -> tuple[Supernet, dict[int, Any]]:
    """The supernet in train mode and its batches."""
    torch.manual_seed(0)
    supernet = Supernet(case.build(), case.space)
    supernet.model.to(memory_format=memory_format)
    supernet.train()
    return supernet, batches_of(case, memory_format)


def fixed_ratio(case: Case, *, pairs: int = 11) -> Ratio:
    """Our step over the floor, for the case's own four configurations."""
    supernet, batches = prepare(case)
    task = Prescaled(batches=batches)
    optimizer = optimizer_of(supernet.parameters())
    networks = [supernet.extract(subnet, uncalibrated=True) for subnet in case.draw]
    floor_optimizer = optimizer_of(networks[0].parameters())
    inputs = [batches[subnet.resolution][0] for subnet in case.draw]
    batch = batches[case.space.resolutions[0]]
    labels = batch[1]

    def ours() -> None:
        optimizer.zero_grad()
        sandwich_step(supernet, batch, case.draw, task=task)
        optimizer.step()

    return paired(ours, lambda: dense_step(networks, floor_optimizer, inputs, labels), pairs=pairs)


def random_ratio(case: Case) -> Ratio:
    """The same over random draws; making a sub-network that is new counts as ours."""
    supernet, batches = prepare(case)
    task = Prescaled(batches=batches)
    optimizer = optimizer_of(supernet.parameters())
    full = supernet.extract(case.space.largest, uncalibrated=True)
    floor_optimizer = optimizer_of(full.parameters())
    rng, rule = np.random.default_rng(1), SandwichRule()
    batch = batches[case.space.resolutions[0]]
    labels = batch[1]
    mine, theirs = [], []
    for number in range(-2, case.num_draws):
        draw = rule.draw(case.space, rng)
        networks = [full, *(supernet.extract(s, uncalibrated=True) for s in draw[1:])]
        inputs = [batches[subnet.resolution][0] for subnet in draw]

        def ours(draw: tuple[Subnet, ...] = draw) -> None:
            optimizer.zero_grad()
            sandwich_step(supernet, batch, draw, task=task)
            optimizer.step()

        def floor(
            networks: list[nn.Module] = networks,
            inputs: list[Tensor] = inputs,
        ) -> None:
            dense_step(networks, floor_optimizer, inputs, labels)

        times = {}
        for work in (ours, floor) if number % 2 == 0 else (floor, ours):
            start = time.perf_counter()
            work()
            times[work] = time.perf_counter() - start
        if number >= 0:
            mine.append(times[ours])
            theirs.append(times[floor])
    return ratio_of(mine, theirs)


def format_ratio(
    case: Case, memory_format: torch.memory_format, autocast: torch.dtype | None, *, pairs: int = 11
) -> Ratio:
    """Our step in one format over our step in fp32 NCHW."""
    steps = []
    for layout, precision in ((memory_format, autocast), (torch.contiguous_format, None)):
        supernet, batches = prepare(case, layout)
        optimizer = optimizer_of(supernet.parameters())

        def step(
            supernet: Supernet = supernet,
            batches: dict[int, Any] = batches,
            optimizer: torch.optim.SGD = optimizer,
            precision: torch.dtype | None = precision,
        ) -> None:
            optimizer.zero_grad()
            sandwich_step(
                supernet,
                batches[case.space.resolutions[0]],
                case.draw,
                task=Prescaled(batches=batches),
                autocast=precision,
            )
            optimizer.step()

        steps.append(step)
    return paired(steps[0], steps[1], pairs=pairs)
