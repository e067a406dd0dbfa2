"""A plan in words: what is elastic, by which rule, and what keeps its size and why."""

from __future__ import annotations

from mutualnet.supernet.channel_plan import ChannelPlan


def describe_plan(plan: ChannelPlan, name: str, elastic_part: str = "") -> str:
    """Tell what a plan does, a line for each group, fixed layer, stage and block.

    Args:
        plan: Of the model.
        name: Of its architecture.
        elastic_part: Name of the submodule that is narrowed; empty for the whole model.
    """
    lines = [
        f"{name}: {len(plan.groups)} elastic channel groups, "
        f"{sum(len(f.layers) for f in plan.inelastic)} fixed layers"
    ]
    if elastic_part:
        lines.append(f"  shared   all outside of {elastic_part}, by every sub-network")
    for group in plan.groups:
        tied = f" (+{len(group.layers) - 1} tied)" if len(group.layers) > 1 else ""
        step = f", in steps of {group.step}" if group.step > 1 else ""
        lines.append(f"  elastic  {group.name}{tied}: {group.size} channels, {group.rule}{step}")
    for fixed in plan.inelastic:
        lines.append(f"  fixed    {', '.join(fixed.layers)}: {fixed.reason}")
    lines += [
        f"  carried  {name}: a part of the full network's, which calibration does not renew"
        for name in plan.carried
    ]
    lines += [
        f"  stage    {stage.side} px: {', '.join(plan.groups[n].name for n in stage.groups)}"
        for stage in plan.stages
    ]
    lines += [
        f"  depth    {stage.name or 'the model'}: {stage.blocks[0]} stays; "
        f"{', '.join(stage.blocks[1:])} can be left out, the last ones first"
        for stage in plan.depth.stages
    ]
    lines += [f"  lasting  {block.name}: {block.reason}" for block in plan.depth.lasting]
    if not plan.depth.stages:
        lines.append("  depth    no residual block can be left out")
    return "\n".join(lines)
