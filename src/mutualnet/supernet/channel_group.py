"""Channels that a network ties together, and how many of them a width keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mutualnet.supernet.channel_rules import PLAIN, ChannelRule


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Channels that must be kept or dropped together, because the network ties them."""

    name: str
    """The first layer that makes them."""
    size: int
    """Channels in the full model."""
    layers: tuple[str, ...]
    """Every layer that makes them."""
    step: int = 1
    """Channels that must stay together, because a grouped layer computes them together."""
    rule: ChannelRule = PLAIN
    whole: int | None = None
    """Channels of the layer that it is a part of, as after a split; None if it has one alone."""
    least: int = 1
    """Blocks of `step` channels that always stay."""
    is_ordered: bool = False
    """Whether a channel's neighbours count, as where a kernel slides along the channels."""

    def count(self, share: float) -> int:
        """Active channels at a share of the full model's width."""
        if self.whole is None:
            count = self.rule.count(self.size, share, self.step)
        else:
            blocks = self.rule.count(self.whole, share) * self.size / self.whole / self.step
            count = self.step * math.floor(blocks + 0.5)
        return min(self.size, max(count, self.least * self.step))
