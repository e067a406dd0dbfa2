"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from mutualnet.config import OptimizerConfig


def learning_rate_factor(
    config: OptimizerConfig, step: int, *, steps_per_epoch: int, total_steps: int
) -> float:
    """Share of the highest learning rate that a step is taken with.

    A linear warm-up first. Then `cosine` (half a period) and `linear` fall to zero step by step,
    `step` multiplies by `gamma` after each of the milestones, `exponential` after every epoch.

    Args:
        config: Schedule and warm-up.
        step: From 0.
        steps_per_epoch: Steps of a pass over the images, in which warm-up and milestones count.
        total_steps: Steps of the run, at whose end cosine and linear reach zero.

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983 (cosine, without restarts).
    """
    warmup_steps = min(round(config.warmup_epochs * steps_per_epoch), total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "linear":
        return 1 - done
    epoch = step // steps_per_epoch
    if config.schedule == "step":
        return config.gamma ** sum(epoch >= milestone for milestone in config.milestones)
    return config.gamma**epoch
