"""The networks that a supernet is compared with: one for each configuration, trained alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from mutualnet.config import Recipe, with_method


def independent_grid(
    recipe: Recipe, widths: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
) -> tuple[Recipe, ...]:
    """Recipes for training every width at every resolution alone, as the papers compare with.

    Clips are also trained at every number of frames, taken from the same clips as the supernet's.

    Args:
        recipe: Of the supernet; everything but method and space stays.
        widths: Width multipliers. The papers take 0.35 as the lowest for MobileNet v2.

    Returns:
        One recipe per configuration, named for it.
    """
    grid = []
    for width in widths:
        for side, frames in product(recipe.space.resolutions, recipe.space.grid_frames()):
            alone = with_method(
                recipe,
                "independent",
                width_range=(width, width),
                resolutions=(side,),
                frames=None if frames is None else (frames,),
            )
            if frames is not None:
                clips = replace(recipe.clips, num_frames=recipe.clip_options["num_frames"])
                alone = replace(alone, clips=clips)
            configuration = f"{width:g}x{side}" if frames is None else f"{width:g}x{side}x{frames}f"
            grid.append(replace(alone, name=f"{recipe.name}_alone_{configuration}"))
    return tuple(grid)
