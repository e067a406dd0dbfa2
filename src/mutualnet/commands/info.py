"""`mutualnet info`: what of a model is elastic, what keeps its size and what it costs."""

from __future__ import annotations

from rich.table import Table

from mutualnet.console import make_console
from mutualnet.cost import CostModel
from mutualnet.cpu import prepare_cpu
from mutualnet.models import create_model
from mutualnet.numbers import in_digits
from mutualnet.space import ElasticSpace
from mutualnet.supernet import Supernet


def info(
    model: str,
    *,
    width_range: tuple[float, float],
    resolutions: tuple[int, ...],
    num_classes: int,
    depths: tuple[float, ...] = (1.0,),
    frames: tuple[int, ...] | None = None,
) -> None:
    """Print what of a model is elastic, what keeps its size and why, and what the grid costs.

    Args:
        model: As for `create_model`, of any kind.
        width_range: Smallest and largest width multiplier.
        resolutions: Sides of the inputs in pixels.
        num_classes: Outputs of the classifier.
        depths: Shares of the residual blocks that run.
        frames: Of the clips, for networks that take (N, 3, T, H, W).
    """
    prepare_cpu()
    space = ElasticSpace(
        width_range=width_range, resolutions=resolutions, depths=depths, frames=frames
    )
    supernet = Supernet(create_model(model, num_classes=num_classes, any_kind=True), space)
    costs, console = CostModel(supernet), make_console()
    console.print(supernet.report())
    if space.full_width_mult > 1:
        console.print(
            f"the model as built is width {space.full_width_mult:g}: width 1 is "
            f"{1 / space.full_width_mult:.3g} of its channels"
        )
    largest = costs.params(space.largest)
    smallest = costs.params(space.smallest)
    console.print(
        f"parameters: {in_digits(largest / 1e6, 4)} M at the largest width, "
        f"{in_digits(smallest / 1e6, 4)} M at the smallest: "
        f"{100 * (1 - smallest / largest):.0f} % are elastic"
    )
    sides = [
        f"{side} px" if count is None else f"{side} px x {count} frames"
        for side in space.resolutions
        for count in space.grid_frames()
    ]
    columns = ["width", *(["depth"] if len(space.depths) > 1 else []), "M params", *sides]
    table = Table(*columns, title="millions of multiply-adds", title_justify="left")
    per_row = len(sides)
    for row in range(0, len(grid := space.grid()), per_row):
        subnets = grid[row : row + per_row]
        shown = [f"{subnets[0].width_mult:g}"]
        shown += [f"{subnets[0].depth_mult or 1:g}"] if len(space.depths) > 1 else []
        cells = [f"{costs.macs(subnet) / 1e6:.2f}" for subnet in subnets]
        table.add_row(*shown, f"{costs.params(subnets[0]) / 1e6:.3f}", *cells)
    console.print(table)
