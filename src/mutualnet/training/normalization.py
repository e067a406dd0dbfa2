"""Images normalised as a pretrained network knows them, which need not be as the data are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose

import timm
import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

_FAR = 0.5
"""Standard deviations by which pixels must differ to be warned of: data sets of photos differ less
from each other."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """What is taken off pixels in [0, 1], and what they are divided by then, for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_channels(self, count: int) -> Normalization:
        """The same for images of so many channels: other numbers of channels share the mean one."""
        if count == len(self.mean):
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return Normalization((mean,) * count, (std,) * count)

    def __str__(self) -> str:
        mean, std = (" ".join(f"{v:.3g}" for v in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std}"


class Renormalize(nn.Module):
    """Turns images of one normalisation into those of another, exactly.

    Args:
        have: Of the images that come.
        want: Of those that go, with as many channels.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, have: Normalization, want: Normalization) -> None:
        super().__init__()
        stds = list(zip(have.std, want.std, strict=True))
        means = zip(have.mean, want.mean, want.std, strict=True)
        scale = [old / new for old, new in stds]
        shift = [(old - new) / std for old, new, std in means]
        self.register_buffer("scale", torch.tensor(scale).view(-1, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return images * self.scale + self.shift

    def largest_change(self) -> float:
        """By how much a pixel within a standard deviation of the mean changes, at most."""
        return float(((self.scale - 1).abs() + self.shift.abs()).max())


def timm_normalization(name: str) -> Normalization | None:
    """What the pretrained weights of one of timm's networks were trained on; None if it is unknown.

    Args:
        name: In timm's list, with or without the tag of its weights.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.mean or not config.std:
        return None
    return Normalization(tuple(config.mean), tuple(config.std))


def with_images_of(model: nn.Module, have: Normalization, want: Normalization) -> nn.Module:
    """A network that takes images of one normalisation and was trained on those of another.

    Args:
        model: Kept as it is; the result itself if the two agree.
        have: Of the images.
        want: Of those it was trained on.
    """
    want = want.to_channels(len(have.mean))
    if _agree(have.mean, want.mean) and _agree(have.std, want.std):
        return model
    return nn.Sequential(Renormalize(have, want), model)


def warn_of_normalization(source: str, have: Normalization) -> None:
    """Say that pretrained weights know other images than those they are to be trained on.

    Their first layer is left alone: padded borders, which are 0 in both, allow no exact change.

    Args:
        source: Of the weights; something is known of `timm:NAME` alone.
        have: Of the images.
    """
    if not source.startswith("timm:"):
        return
    want = timm_normalization(source.removeprefix("timm:"))
    if want is None:
        return
    want = want.to_channels(len(have.mean))
    if Renormalize(have, want).largest_change() > _FAR:
        logger.warning(
            "%s was trained on images normalised by %s, the data have %s: its first layers have to "
            "learn that, and without training its scores are low",
            source,
            want,
            have,
        )


def _agree(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(isclose(a, b, abs_tol=1e-6) for a, b in zip(one, other, strict=True))
