"""Which residual blocks can be left out: found by what passes between modules, proven by a trial.

A block can be left out if it adds to its input and passes on the same channels in the same shape:
then what follows can take the input in place of the block's output.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mutualnet.messages import first_line
from mutualnet.module_state import mode_of
from mutualnet.supernet.capture import Capture
from mutualnet.supernet.channel_ids import same_channels
from mutualnet.supernet.channel_plan import ChannelPlan
from mutualnet.supernet.depth_plan import BlockStage, DepthPlan, LastingBlock, is_inside
from mutualnet.supernet.examples import has_values
from mutualnet.supernet.module_calls import ModuleCall
from mutualnet.supernet.narrow import narrow_module, take

logger = logging.getLogger(__name__)

_Calls = Mapping[str, list[ModuleCall]]
"""Calls of a pass by the module's name."""


def find_blocks(
    model: nn.Module,
    inputs: Any,
    plan: ChannelPlan,
    captures: Sequence[Capture],
    passes: Sequence[Sequence[ModuleCall]],
) -> DepthPlan:
    """The stages whose last blocks can be left out.

    A stage is a run of modules that hand one tensor on to each other: one block of any kind, then
    those that can be left out. The block in front counts as one of the stage if it is of the same
    class. Of blocks inside of blocks those of the longer stage count.

    Args:
        model: The copy that was followed.
        inputs: What it was followed with.
        plan: Its widths.
        captures: What was found of its channels.
        passes: Calls of its modules, for each capture.
    """
    by_name = [_by_name(calls) for calls in passes]
    modules = dict(model.named_modules())
    reasons: dict[str, str] = {}
    for name, module in modules.items():
        if name and any(True for _ in module.parameters()):
            reasons[name] = _reason_to_stay(name, captures, by_name) or ""
    can_go = {name for name, reason in reasons.items() if not reason}
    for name, other in _shared(modules, sorted(can_go)).items():
        reasons[name] = f"it shares its parameters with {other}"
        can_go.discard(name)
    runs = _runs(by_name[0])
    found = _longest((stage for run in runs for stage in _stages(run, modules, can_go)), modules)
    stages, failed = _proven(_Trial(model, inputs, plan), found)
    order = {name: number for number, name in enumerate(modules)}
    kinds = {type(modules[block]) for stage in found for block in stage.blocks[1:]}
    kinds.discard(nn.Sequential)
    lasting = [
        LastingBlock(name=name, reason=failed.get(name) or reasons[name])
        for run in runs
        for name in run
        if type(modules[name]) in kinds and (name in failed or reasons.get(name))
    ]
    return DepthPlan(
        stages=tuple(sorted(stages, key=lambda stage: order[stage.blocks[0]])),
        lasting=tuple(sorted(lasting, key=lambda block: order[block.name])),
    )


def _by_name(calls: Iterable[ModuleCall]) -> _Calls:
    found: dict[str, list[ModuleCall]] = defaultdict(list)
    for call in calls:
        found[call.name].append(call)
    return found


def _reason_to_stay(
    name: str, captures: Sequence[Capture], by_name: Sequence[_Calls]
) -> str | None:
    """Why a module cannot be left out; None if nothing is known to stand against it."""
    for seen, calls in zip(captures, by_name, strict=True):
        found = calls.get(name, [])
        if len(found) != 1:
            return f"it runs {len(found)} times" if found else "it does not run by itself"
        (call,) = found
        if len(call.entered) != 1 or len(call.left) != 1:
            return (
                f"it takes {len(call.entered)} tensors and makes {len(call.left)}, not one of each"
            )
        if call.taken_shape != call.made_shape:
            return (
                f"it makes {list(call.made_shape[1:])} of {list(call.taken_shape[1:])}, "
                "another shape"
            )
        if not call.adds_to_input:
            return "it does not add to its input"
        taken, made = (_labels(side.get(name, [])) for side in (seen.entered, seen.left))
        if not same_channels(seen.ids, taken, made):
            return "its output has other channels than its input"
    return None


def _labels(noted: Sequence[tuple[tuple[int, ...], tuple]]) -> tuple:  # type: ignore[type-arg]
    return noted[0][1] if noted else ()


def _shared(modules: Mapping[str, nn.Module], names: Sequence[str]) -> dict[str, str]:
    """Candidates that hold a tensor which somebody else holds too, and who."""
    holders: dict[int, list[str]] = defaultdict(list)
    for path, module in modules.items():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                holders[id(tensor)].append(path)
    found = {}
    for paths in holders.values():
        for name in names if len(paths) > 1 else ():
            inside = [is_inside(path, (name,)) for path in paths]
            if any(inside) and not all(inside):
                found[name] = paths[inside.index(False)]
    return found


def _runs(calls: _Calls) -> list[list[str]]:
    """Children of one module, each of which takes what the one before has made, and only that."""
    children: dict[str, list[str]] = defaultdict(list)
    for name, found in calls.items():
        if name and len(found) == 1:
            children[name.rpartition(".")[0]].append(name)
    runs = []
    for names in children.values():
        run: list[str] = []
        for name in names:
            if run and calls[run[-1]][0].left != calls[name][0].entered:
                runs.append(run)
                run = []
            run.append(name)
        runs.append(run)
    return runs


def _stages(
    run: Sequence[str], modules: Mapping[str, nn.Module], can_go: Collection[str]
) -> Iterable[BlockStage]:
    """The stages of a run of modules."""
    blocks: list[str] = []
    for name, following in zip(run, [*run[1:], None], strict=True):
        if name in can_go:
            blocks.append(name)
        elif following is not None and _are_alike(modules[name], modules[following]):
            blocks = [name]
        else:
            blocks = []
        if len(blocks) > 1 and following not in can_go:
            yield BlockStage(name=name.rpartition(".")[0], blocks=tuple(blocks))


def _are_alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules are of one class that says what they do."""
    return type(one) is type(other) and type(one) is not nn.Sequential


def _longest(stages: Iterable[BlockStage], modules: Mapping[str, nn.Module]) -> list[BlockStage]:
    """Of stages inside of each other's blocks those with more blocks.

    Of equals the outer one, unless its blocks are plain sequences.
    """
    chosen: list[BlockStage] = []
    for stage in sorted(stages, key=lambda stage: -stage.blocks[0].count(".")):
        inner = [other for other in chosen if is_inside(other.blocks[0], stage.blocks)]
        is_plain = type(modules[stage.blocks[0]]) is nn.Sequential
        if all(len(other.blocks) <= len(stage.blocks) - is_plain for other in inner):
            chosen = [other for other in chosen if other not in inner] + [stage]
    return chosen


def _proven(trial: _Trial, stages: Sequence[BlockStage]) -> tuple[list[BlockStage], dict[str, str]]:
    """The stages without which the network runs, and why blocks of the others must stay."""
    failed: dict[str, str] = {}

    def fails(blocks: Sequence[str]) -> str | None:
        return trial.problem(blocks) if blocks else None

    if fails([block for stage in stages for block in stage.blocks[1:]]) is None:
        return list(stages), failed
    proven = []
    for stage in stages:
        reason = fails(stage.blocks[1:])
        if reason is None:
            proven.append(stage)
        else:
            failed |= dict.fromkeys(stage.blocks[1:], f"without it {reason}")
    together = fails([block for stage in proven for block in stage.blocks[1:]])
    if together is None:
        return proven, failed
    blocks = [block for stage in proven for block in stage.blocks[1:]]
    return [], failed | dict.fromkeys(blocks, f"without it and others {together}")


class _Trial:
    """Runs a copy of the network without some blocks."""

    def __init__(self, model: nn.Module, inputs: Any, plan: ChannelPlan) -> None:
        self._model, self._inputs, self._plan = model, inputs, plan
        self._expected: dict[bool, list[tuple[int, ...]]] = {}
        for training in (False, True):
            if has_values(inputs) and not training:
                self._expected[training] = []  # it runs, or nothing would have been followed
                continue
            try:
                self._expected[training] = self._shapes(model, training)
            except Exception as problem:  # whatever a stranger's model raises
                logger.debug("no trial in %s mode: %s", _mode(training), first_line(problem))

    def _shapes(self, model: nn.Module, training: bool) -> list[tuple[int, ...]]:
        with mode_of(model, training), torch.no_grad():
            found = tree_leaves(model(self._inputs))
        if has_values(self._inputs):
            return []  # sizes may depend on values, such as how many boxes are found
        return [tuple(value.shape) for value in found if isinstance(value, Tensor)]

    def problem(self, removed: Sequence[str]) -> str | None:
        """What fails without some blocks, in either mode, at full and at half width."""
        for counts in (self._plan.full_counts, self._plan.counts(0.5)):
            try:
                narrow = narrow_module(
                    self._model,
                    self._plan,
                    self._plan.without(counts, removed),
                    lambda _, tensor, dims: nn.Parameter(
                        take(tensor.detach(), dims), tensor.requires_grad
                    ),
                    lambda _, tensor, dims: take(tensor, dims).clone(),
                    removed,
                )
                for training, expected in self._expected.items():
                    if self._shapes(narrow, training) != expected:
                        return f"the output has another shape in {_mode(training)} mode"
            except Exception as problem:  # whatever a stranger's model raises
                return f"the network fails ({first_line(problem)[:160]})"
        return None


def _mode(training: bool) -> str:
    return "train" if training else "eval"
