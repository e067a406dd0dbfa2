"""The plan of depth: which residual blocks a sub-network runs, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BlockStage:
    """Blocks that run one after the other, of which the last ones can be left out."""

    name: str
    """The module that holds them."""
    blocks: tuple[str, ...]
    """In the order in which they run. The first always stays; each other one adds to its input and
    passes on the same channels."""

    def kept(self, depth_mult: float) -> int:
        """How many of the first blocks run at a depth: the nearest number, at least one."""
        return max(1, math.floor(depth_mult * len(self.blocks) + 0.5))


@dataclass(frozen=True, kw_only=True)
class LastingBlock:
    """A block that always runs, beside others that can be left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DepthPlan:
    """The stages of a model as a function of the depth multiplier."""

    stages: tuple[BlockStage, ...] = ()
    """Those with a block that can be left out."""
    lasting: tuple[LastingBlock, ...] = ()

    @property
    def full_depths(self) -> tuple[int, ...]:
        """Every stage with all its blocks."""
        return tuple(len(stage.blocks) for stage in self.stages)

    def depths(self, depth_mult: float) -> tuple[int, ...]:
        """How many blocks of each stage run.

        Args:
            depth_mult: In (0, 1].
        """
        return tuple(stage.kept(depth_mult) for stage in self.stages)

    def removed(self, depths: Sequence[int]) -> tuple[str, ...]:
        """Names of the blocks that are left out."""
        return tuple(
            block
            for stage, kept in zip(self.stages, depths, strict=True)
            for block in stage.blocks[kept:]
        )


def is_inside(name: str, blocks: Collection[str]) -> bool:
    """Whether a module, parameter or buffer is one of some blocks or in one, by its name."""
    if not blocks:
        return False
    path = name
    while path:
        if path in blocks:
            return True
        path = path.rpartition(".")[0]
    return False
