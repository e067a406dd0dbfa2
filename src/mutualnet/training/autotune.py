"""Which number format and memory layout train fastest here: three steps of each, timed."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mutualnet.config import ComputeConfig
from mutualnet.cost import wait_for
from mutualnet.precision import PLAIN, ComputeFormat, autocast_to
from mutualnet.sandwich import sandwich_step
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from mutualnet.tasks.base import Task

logger = logging.getLogger(__name__)

_STEPS = 3
_ONE_IMAGE_PASSES = 20
_NOTABLE = 1.1
"""Ratio from which one image takes notably longer."""


def choose_format(
    supernet: Supernet,
    batch: Any,
    subnets: tuple[Subnet, ...],
    task: Task,
    requested: ComputeConfig,
) -> ComputeFormat:
    """Take what the recipe says, and for `auto` what is fastest in a few steps on a copy.

    Neither the network nor any random state changes.

    Args:
        supernet: Where it will train.
        batch: One batch at the top resolution, on the network's device.
        subnets: What a step runs.
        task: The task.
        requested: What the recipe says.
    """
    precisions = ["fp32", "bf16"] if requested.precision == "auto" else [requested.precision]
    layouts = list(task.memory_formats)
    if requested.memory_format != "auto":
        layouts = [requested.memory_format]
    candidates = [ComputeFormat(p, m) for p in precisions for m in layouts]
    if len(candidates) == 1:
        return candidates[0]
    device = next(supernet.parameters()).device
    devices = [device] if device.type == "cuda" else []
    seconds = {}
    for candidate in candidates:
        with torch.random.fork_rng(devices=devices):
            seconds[candidate] = _seconds_per_step(supernet, batch, subnets, task, candidate)
    chosen = min(seconds, key=seconds.__getitem__)
    timings = ", ".join(f"{found} {value:.3f}" for found, value in seconds.items())
    logger.info("format %s chosen, seconds per step: %s", chosen, timings)
    return chosen


@dataclass(frozen=True, slots=True)
class TableFormats:
    """What a query table is made in."""

    scoring: ComputeFormat
    """Scores and BN statistics, a batch at a time."""
    running: ComputeFormat
    """Latencies and predictions, an image at a time."""


def table_formats(
    supernet: Supernet,
    trained: ComputeFormat,
    batch: Any,
    *,
    task: Task,
    one_image: bool = False,
    margin: float = 0.9,
) -> TableFormats:
    """The formats in which this machine runs batches through the full network fastest.

    Another format than `PLAIN` must save at least a tenth. To run in, the number format is the
    weights' own or that of training. To score in, it may be any; whether scores suffer is for the
    table to try. The network stays as it is.

    Args:
        supernet: Calibrated or not.
        trained: What training computed in.
        batch: What to time scoring on, at the top resolution, on the network's device.
        task: Runs the network.
        one_image: To run in, leave out what takes over a tenth longer than `PLAIN` for one image in
            the smallest sub-network, where a format may cost more than it saves.
        margin: Most time that another format than `PLAIN` may take, as a share of PLAIN's.
    """
    layouts = ("contiguous", "channels_last")
    candidates = [ComputeFormat(p, m) for p in ("fp32", "bf16") for m in layouts]
    known = [found for found in candidates if found.precision in ("fp32", trained.precision)]
    if one_image:
        known = [PLAIN, *_good_for_one_image(supernet, task, known)]
    device = next(supernet.parameters()).device

    def run(module: nn.Module) -> None:
        task.run(module, batch)

    seconds = _seconds_per_pass(supernet.model, run, device, candidates)

    def fastest(formats: Sequence[ComputeFormat]) -> ComputeFormat:
        chosen = min(formats, key=seconds.__getitem__)
        return chosen if seconds[chosen] <= margin * seconds[PLAIN] else PLAIN

    found = TableFormats(scoring=fastest(candidates), running=fastest(known))
    timings = ", ".join(f"{each} {value:.4f}" for each, value in seconds.items())
    logger.info(
        "scoring in %s, running in %s, seconds per pass: %s", found.scoring, found.running, timings
    )
    return found


def _good_for_one_image(
    supernet: Supernet, task: Task, candidates: Sequence[ComputeFormat]
) -> list[ComputeFormat]:
    """Those that do not slow the smallest sub-network down, of all but the plain one."""
    smallest = supernet.space.smallest
    module, device = (
        supernet.extract(smallest, uncalibrated=True),
        next(supernet.parameters()).device,
    )
    image = task.batch_to(task.example_inputs(supernet, smallest), device)
    seconds = _seconds_per_pass(
        module, lambda trial: trial(image), device, candidates, _ONE_IMAGE_PASSES
    )
    most = _NOTABLE * seconds[PLAIN]
    return [
        compute_format
        for compute_format in candidates
        if compute_format != PLAIN and seconds[compute_format] <= most
    ]


def _seconds_per_pass(
    module: nn.Module,
    run: Callable[[nn.Module], Any],
    device: torch.device,
    formats: Sequence[ComputeFormat],
    passes: int = _STEPS,
) -> dict[ComputeFormat, float]:
    """The fastest pass in each format; formats take turns, so that other load hits all alike."""
    trials = {compute_format: copy.deepcopy(module).eval() for compute_format in formats}
    times: dict[ComputeFormat, list[float]] = {compute_format: [] for compute_format in formats}
    for compute_format, trial in trials.items():
        compute_format.arrange(trial)
    with torch.inference_mode():
        for _ in range(passes):
            for compute_format, trial in trials.items():
                with autocast_to(compute_format.autocast, device):
                    start = time.perf_counter()
                    run(trial)
                    wait_for(device)
                    times[compute_format].append(time.perf_counter() - start)
    return {compute_format: min(found[1:]) for compute_format, found in times.items()}


def _seconds_per_step(
    supernet: Supernet,
    batch: Any,
    subnets: tuple[Subnet, ...],
    task: Task,
    compute_format: ComputeFormat,
) -> float:
    trial = copy.deepcopy(supernet).train()
    compute_format.arrange(trial.model)
    times = []
    for _ in range(_STEPS):
        trial.zero_grad()
        start = time.perf_counter()
        losses = sandwich_step(trial, batch, subnets, task=task, autocast=compute_format.autocast)
        float(losses[-1].loss)  # waits for an accelerator
        times.append(time.perf_counter() - start)
    return min(times[1:])
