"""Stages: channel groups whose layers' outputs have one resolution."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from torch import nn

from mutualnet.supernet.channel_plan import ChannelPlan, WidthStage
from mutualnet.supernet.depth_plan import DepthPlan, is_inside
from mutualnet.supernet.layers import is_producer
from mutualnet.supernet.module_calls import ModuleCall


def find_stages(
    model: nn.Module, plan: ChannelPlan, depth: DepthPlan, calls: Sequence[ModuleCall]
) -> tuple[WidthStage, ...]:
    """All groups by resolution, in the order in which a network comes to it.

    A group belongs where most of its layers do, of equals where the first does. A layer of a
    residual block counts at the block's output; one without a resolution, such as a linear layer or
    one that sees pooled channels, where the layer before does. Linked groups stay together.

    Args:
        model: The copy that was followed.
        plan: Its widths.
        depth: Its blocks.
        calls: Of its modules, as they ran.
    """
    blocks = {block for stage in depth.stages for block in stage.blocks}
    blocks |= {block.name for block in depth.lasting}
    layers = {layer for group in plan.groups for layer in group.layers}
    layers |= {name for name, module in model.named_modules() if is_producer(module)}
    sides = _sides([call for call in calls if call.name in blocks | layers], blocks)
    leader = {number: link[0] for link in plan.links for number in link}
    found: dict[int, list[int]] = defaultdict(list)
    order = list(dict.fromkeys(sides.values()))
    for number in range(len(plan.groups)):
        first = plan.groups[leader.get(number, number)]
        known = [sides[layer] for layer in first.layers if layer in sides]
        if known:
            found[Counter(known).most_common(1)[0][0]].append(number)
        else:  # layers that are never called, such as functional ones
            found[order[0] if order else 0].append(number)
    return tuple(
        WidthStage(side=side, groups=tuple(found[side])) for side in (order or [0]) if side in found
    )


def _sides(calls: Sequence[ModuleCall], blocks: Collection[str]) -> dict[str, int]:
    """The side at which each module counts, by its name, in the order of the calls."""
    layers = [c for c in calls if c.name not in blocks]
    of_blocks = {c.name: side for c in calls if c.name in blocks and (side := _side(c))}
    found: dict[str, int] = {}
    side = next((s for c in layers if (s := _side(c))), 0)
    for call in layers:
        inside = next((b for b in of_blocks if is_inside(call.name, (b,))), None)
        if inside is not None:
            side = of_blocks[inside]
        elif own := _side(call):
            side = own
        found.setdefault(call.name, side)
    return found


def _side(call: ModuleCall) -> int:
    """Of an output (N, C, H, W), (N, C, T, H, W) or (N, H, W, C), the larger in pixels; else 0."""
    shape = call.made_shape
    if len(shape) < 4:
        return 0
    is_channels_last = len(shape) == 4 and shape[1] == shape[2] != shape[3]
    side = shape[1] if is_channels_last else max(shape[-2:])
    return side if side > 1 else 0
