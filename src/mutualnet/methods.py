"""Methods that train one network in many configurations: what a step draws, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Literal

import numpy as np

from mutualnet.space import ElasticSpace, Subnet


@dataclass(frozen=True, kw_only=True, slots=True)
class SandwichRule:
    """Which sub-networks one training step runs: the largest, the smallest and random ones.

    Source: Yu & Huang 2019, https://arxiv.org/abs/1903.05134, section 3.2 (widths);
        Yang et al. 2020, https://arxiv.org/abs/1909.12978, section 3 (a resolution for each).
    """

    num_random: int = 2
    """Sub-networks of random width, and of random depth where the space has several."""
    include_smallest: bool = True
    """Whether the narrowest width at the least depth runs in every step."""
    scales: Literal["own", "shared", "top"] = "own"
    """Resolution and frames of the narrower ones: each its own draw, one draw for all, or always
    the top."""
    fix_largest: bool = True
    """Whether the largest always sees the top resolution and all frames; if not, it draws like the
    others."""
    every_width: bool = False
    """Whether every width of the space's list runs in every step, in place of random ones."""

    def __post_init__(self) -> None:
        if not isinstance(self.num_random, Integral):
            raise ValueError(f"num_random must be a whole number, got {self.num_random!r:.80}")
        if self.num_random < 0:
            raise ValueError(f"num_random must be >= 0, got {self.num_random}")
        if self.scales not in ("own", "shared", "top"):
            raise ValueError(f"scales must be 'own', 'shared' or 'top', got {self.scales!r}")

    def draw(self, space: ElasticSpace, rng: np.random.Generator) -> tuple[Subnet, ...]:
        """Draw the sub-networks of one step, the largest first and then by falling width.

        Args:
            space: Where to draw from.
            rng: Source of every random choice; the same state gives the same draw.

        Raises:
            ValueError: If every width is to run and the space has a range instead of a list.
        """
        low, high = space.width_range
        if self.every_width:
            if space.widths is None:
                raise ValueError("every_width needs a space with a list of widths, got a range")
            widths = list(space.widths[1:])
        elif space.widths is not None:
            widths = [float(width) for width in rng.choice(space.widths, size=self.num_random)]
        else:
            widths = [float(width) for width in rng.uniform(low, high, size=self.num_random)]
        if self.include_smallest and not self.every_width:
            widths.append(low)
        shared = self._scale(space, rng)
        top = space.resolutions[0], space.grid_frames()[0]

        def scale() -> tuple[int, int | None]:
            if self.scales == "top":
                return top
            return shared if self.scales == "shared" else self._scale(space, rng)

        deepest, *_, shallowest = (*space.grid_depths(), space.grid_depths()[-1])

        def subnet(width: float, scale: tuple[int, int | None], depth: float | None) -> Subnet:
            side, frames = scale
            return Subnet(width_mult=width, resolution=side, num_frames=frames, depth_mult=depth)

        largest = subnet(high, top if self.fix_largest else scale(), deepest)
        narrower = [
            subnet(width, scale(), self._depth(space, rng))
            for width in sorted(widths, reverse=True)
        ]
        if self.include_smallest and narrower:
            narrower[-1] = replace(narrower[-1], depth_mult=shallowest)
        return (largest, *narrower)

    @staticmethod
    def _depth(space: ElasticSpace, rng: np.random.Generator) -> float | None:
        depths = space.grid_depths()
        if len(depths) == 1:  # draws of spaces with one depth stay what they were
            return depths[0]
        return depths[int(rng.integers(len(depths)))]

    @staticmethod
    def _scale(space: ElasticSpace, rng: np.random.Generator) -> tuple[int, int | None]:
        """A resolution and a number of frames."""
        side = space.resolutions[int(rng.integers(len(space.resolutions)))]
        if space.frames is None:  # draws of images stay what they were
            return side, None
        return side, space.frames[int(rng.integers(len(space.frames)))]

    def trained(self, space: ElasticSpace) -> ElasticSpace:
        """The part of a space that the draws reach: all of it where widths are random.

        Args:
            space: What a recipe asks for.
        """
        low, high = space.width_range
        if self.num_random or self.every_width:
            return space
        widths = (high, low) if self.include_smallest and low < high else (high,)
        ends = (space.depths[0], space.depths[-1]) if self.include_smallest else space.depths[:1]
        space = replace(space, depths=ends)
        if low == high or space.widths == widths:
            return space
        return replace(
            space,
            width_range=(widths[-1], high),
            widths=widths if len(widths) > 1 else None,
            model_width_mult=space.full_width_mult,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One way to train a network: its draws, its targets, its norms and the space that it trains.

    The literature's are in `METHODS`.
    """

    summary: str
    """What a step runs, for a list of methods."""
    rule: SandwichRule = field(default_factory=SandwichRule)
    """The sub-networks of a step."""
    distills: bool = True
    """Whether narrower sub-networks learn from the largest one's output; if not, from labels."""
    owns_norms: bool = False
    """Whether every width has BN weights of its own, which takes a list of widths."""
    widths: Literal["range", "list", "largest"] = "range"
    """What it trains of a range of widths: all, four evenly spaced ones, or the largest. All or
    four: a list that a space has already stays."""
    top_resolution_only: bool = False
    """Whether a recipe for this method has the top resolution and all frames alone."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """The learning rate's, where a recipe has the one of another method."""

    def draw(self, space: ElasticSpace, rng: np.random.Generator) -> tuple[Subnet, ...]:
        """Draw the sub-networks of one step, the largest first: see `SandwichRule.draw`."""
        return self.rule.draw(space, rng)

    def space(
        self,
        base: ElasticSpace,
        *,
        width_range: tuple[float, float] | None = None,
        resolutions: tuple[int, ...] | None = None,
        depths: tuple[float, ...] | None = None,
        frames: tuple[int, ...] | None = None,
        before: Method | None = None,
    ) -> ElasticSpace:
        """The space that the method trains, made of a recipe's, which may be for another one.

        Args:
            base: The recipe's.
            width_range: In place of the base's, and of its list of widths.
            resolutions: In place of the base's, in pixels.
            depths: In place of the base's.
            frames: In place of the base's.
            before: The recipe's method, if it has one. A list that this one needed does not stay
                where a range will do.

        Raises:
            ValueError: If a value is out of range.
        """
        if width_range is not None:
            full = max(base.full_width_mult, *width_range)
            base = replace(base, width_range=width_range, widths=None, model_width_mult=full)
        (low, high), widths = base.width_range, base.widths
        if self.widths == "largest":
            low, widths = high, None
        elif self.widths == "list" and widths is None:
            widths = tuple(low + (high - low) * number / 3 for number in range(4))
        elif self.widths == "range" and before is not None and before.widths == "list":
            widths = None
        sides, blocks = resolutions or base.resolutions, depths or base.depths
        clips = frames or base.frames
        if clips is not None and self.top_resolution_only:
            clips = (max(clips),)
        return replace(
            base,
            width_range=(low, high),
            widths=widths,
            resolutions=(max(sides),) if self.top_resolution_only else sides,
            depths=(max(blocks),) if self.widths == "largest" else blocks,
            frames=clips,
        )


_LARGEST = SandwichRule(num_random=0, include_smallest=False, scales="top")

METHODS: dict[str, Method] = {
    "mutualnet": Method(summary="largest, smallest and two random widths, each at its resolution"),
    "us_net": Method(
        summary="largest, smallest and two random widths at the top resolution",
        rule=SandwichRule(scales="top"),
        schedule="linear",
    ),
    "us_net_multi_scale": Method(
        summary="the same widths, all at one random resolution",
        rule=SandwichRule(scales="shared", fix_largest=False),
        schedule="linear",
    ),
    "gradaug": Method(
        summary="largest and three random widths, each at its resolution",
        rule=SandwichRule(num_random=3, include_smallest=False),
    ),
    "multi_scale": Method(
        summary="the largest width at a random resolution",
        rule=replace(_LARGEST, scales="shared", fix_largest=False),
        widths="largest",
    ),
    "s_net": Method(
        summary="every width of a list, on labels, with BN weights of its own",
        rule=SandwichRule(num_random=0, include_smallest=False, scales="top", every_width=True),
        distills=False,
        owns_norms=True,
        widths="list",
        top_resolution_only=True,
    ),
    "independent": Method(
        summary="the largest width at the top resolution: one network by itself",
        rule=_LARGEST,
        widths="largest",
        top_resolution_only=True,
    ),
}
"""The methods of the literature.

Source: MutualNet, Yang et al. 2020, https://arxiv.org/abs/1909.12978; US-Net, Yu & Huang 2019,
    https://arxiv.org/abs/1903.05134; GradAug, Yang et al. 2020, https://arxiv.org/abs/2006.07989;
    slimmable networks (`s_net`), Yu et al. 2019, https://arxiv.org/abs/1812.08928.
"""
