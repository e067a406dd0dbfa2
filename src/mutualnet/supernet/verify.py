"""Does the plan hold? The narrowest network is run for its shapes; what breaks it is inelastic."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mutualnet.messages import first_line
from mutualnet.module_state import mode_of
from mutualnet.supernet.channel_plan import Axis, ChannelPlan, Inelastic, Segment
from mutualnet.supernet.narrow import narrow_module, take


def freeze_failing_groups(
    model: nn.Module, inputs: Tensor, plan: ChannelPlan, train: bool
) -> ChannelPlan:
    """Freeze the groups whose narrowing breaks the forward pass or changes the output's shape."""
    modes = [False, True] if train else [False]
    expected = {training: _output_shapes(model, inputs, training) for training in modes}

    def trial(active: set[int]) -> str | None:
        counts = tuple(g.step if i in active else g.size for i, g in enumerate(plan.groups))
        narrow = narrow_module(
            model,
            plan,
            counts,
            lambda _, full, dims: nn.Parameter(take(full.detach(), dims)),
            lambda _, full, dims: take(full, dims),
        )
        for training, shapes in expected.items():
            try:
                got = _output_shapes(narrow, inputs, training)
            except Exception as error:
                return f"the forward pass does not run narrower ({first_line(error)[:120]})"
            if got != shapes:
                return f"narrowing changes the output's shape from {shapes[0]} to {got[0]}"
        return None

    everything = set(range(len(plan.groups)))
    if trial(everything) is None:
        return plan
    bad = {i: reason for i in everything if (reason := trial({i})) is not None}
    good = everything - set(bad)
    for i in sorted(good):  # groups that only fail together with others
        kept = good - set(bad)
        if trial(kept) is None:
            break
        if (reason := trial({j for j in kept if j <= i})) is not None:
            bad[i] = reason
    return _without_groups(plan, bad)


def _output_shapes(model: nn.Module, inputs: Tensor, training: bool) -> list[tuple[int, ...]]:
    with mode_of(model, training), torch.no_grad():
        result = model(inputs)
    return [tuple(t.shape) for t in tree_leaves(result) if isinstance(t, Tensor)]


def _without_groups(plan: ChannelPlan, bad: Mapping[int, str]) -> ChannelPlan:
    """The plan with some groups inelastic for the given reasons."""
    renumber = {
        old: new for new, old in enumerate(i for i in range(len(plan.groups)) if i not in bad)
    }
    axes: dict[str, tuple[Axis, ...]] = {}
    for layer, found in plan.axes.items():
        kept = []
        for axis in found:
            parts = tuple(
                Segment(group=renumber[s.group], positions=s.positions, channels=s.channels)
                for s in axis.segments
                if s.group in renumber
            )
            if parts:
                kept.append(
                    Axis(
                        size=axis.size,
                        segments=parts,
                        parameter_dims=axis.parameter_dims,
                        attributes=axis.attributes,
                    )
                )
        if kept:
            axes[layer] = tuple(kept)
    newly = tuple(Inelastic(layers=plan.groups[i].layers, reason=r) for i, r in sorted(bad.items()))
    return ChannelPlan(
        groups=tuple(g for i, g in enumerate(plan.groups) if i not in bad),
        axes=axes,
        inelastic=(*plan.inelastic, *newly),
        input_channels=plan.input_channels,
    )
