"""The networks that a supernet is compared with: one for each configuration, trained alone."""

from __future__ import annotations

from dataclasses import replace

from mutualnet.config import Recipe, with_method


def independent_grid(
    recipe: Recipe, widths: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
) -> tuple[Recipe, ...]:
    """Recipes for training every width at every resolution alone, as the papers compare with.

    Args:
        recipe: Of the supernet; everything but method and space stays.
        widths: Width multipliers. The papers take 0.35 as the lowest for MobileNet v2.

    Returns:
        One recipe per configuration, named for it.
    """
    grid = []
    for width in widths:
        for side in recipe.space.resolutions:
            alone = with_method(
                recipe, "independent", width_range=(width, width), resolutions=(side,)
            )
            grid.append(replace(alone, name=f"{recipe.name}_alone_{width:g}x{side}"))
    return tuple(grid)
