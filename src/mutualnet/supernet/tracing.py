"""From an untouched model to its plan: follow the channels, group them, try it narrower."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mutualnet.messages import first_line
from mutualnet.module_state import mode_of
from mutualnet.supernet.capture import Capture, Operation, Site, along, capture, fresh_labels
from mutualnet.supernet.carried_buffers import carried_buffers
from mutualnet.supernet.channel_ids import ChannelIds, axes_of
from mutualnet.supernet.channel_plan import ChannelPlan
from mutualnet.supernet.channel_rules import ChannelRule, rules_for
from mutualnet.supernet.examples import first_tensor, has_values, resized_batch
from mutualnet.supernet.find_blocks import find_blocks
from mutualnet.supernet.grouping import Choices, build_plan, make_rectangular
from mutualnet.supernet.layers import is_producer
from mutualnet.supernet.meta_copy import first_samples, meta_copy
from mutualnet.supernet.module_calls import watch_calls
from mutualnet.supernet.shape_pass import run_for_shapes
from mutualnet.supernet.sizes import Number, SizeVector, attribute_vectors, doubtful_numbers
from mutualnet.supernet.verify import Failure, first_failure
from mutualnet.supernet.width_stages import find_stages

logger = logging.getLogger(__name__)

FEW_GROUPS = 4
"""Grouped convolutions with at most this many groups are narrowed inside of each of them."""
LARGE_GROUP = 8
"""... if the groups have more channels than this."""
BATCH = 7
"""Images that the copy without values runs on: a number that channel counts seldom are made of."""
MOST_TRIALS = 24

UNUSED = "nothing that ran uses it"
"""Why a layer stays whole that was not followed: nobody knows what its channels would meet."""


def trace_channels(
    model: nn.Module,
    example: Any,
    rules: Mapping[str, ChannelRule] | None = None,
) -> ChannelPlan:
    """Find the tied channels of a model and everything that sizes them.

    The model is not changed. A copy without values (on the meta device where the model allows it)
    runs in eval mode, and in train mode where that runs other modules or uses other parameters,
    and every channel of its parameters is followed through every operation. What no operation
    uses stays whole. Then narrower copies run: what does not do the
    same to the channels that are left is made inelastic. Last, residual blocks that can be left
    out are looked for.

    Args:
        model: Any network that runs on the example.
        example: What it is called with: (N, C, H, W), (N, C, T, H, W), or several tensors in tuples
            and lists. Only shapes count, but for N.
        rules: Layer-name patterns to channel rules, before the architecture's own.

    Raises:
        ValueError: If the model does not run on the example, or a rule matches no layer.
    """
    overrides = rules_for(model, rules)
    with torch.inference_mode(False):  # which dispatches convolutions under other names
        plan = run_for_shapes(
            lambda: _trace(model, example, overrides), partial(_is_elastic, model)
        )
    _check_overrides(rules, plan, model)
    return plan


def _is_elastic(model: nn.Module, plan: ChannelPlan) -> bool:
    """Whether any layer is."""
    layers = {layer for group in plan.groups for layer in group.layers}
    return any(is_producer(model.get_submodule(layer)) for layer in layers)


def _trace(model: nn.Module, example: Any, rules: Mapping[str, ChannelRule]) -> ChannelPlan:
    copy_, inputs = meta_copy(model, resized_batch(example, BATCH))
    tracer = _Tracer(copy_, inputs, rules)
    plan = tracer.trace()
    inputs, modes = tracer.inputs, tracer.modes
    passes = [watch_calls(copy_, inputs, training=training) for training in modes]
    depth = find_blocks(copy_, inputs, plan, tracer.captures, passes)
    stages = find_stages(copy_, plan, depth, passes[0])
    return replace(plan, depth=depth, stages=stages, carried=carried_buffers(copy_, inputs, plan))


class _Tracer:
    """Follows a copy's channels and repairs what a narrower network shows to be wrong."""

    def __init__(self, copy_: nn.Module, inputs: Any, rules: Mapping[str, ChannelRule]) -> None:
        self.copy = copy_
        self.rules = rules
        self.modes, self.inputs = _modes(copy_, inputs)
        self.inner: dict[str, bool] = {}
        self.choices = Choices()
        self.captures: list[Capture] = []
        self.linked: set[Site] = set()
        self.failed = 0

    def trace(self) -> ChannelPlan:
        self.captures = self.follow()
        if self._turn_inward():
            self.captures = self.follow()
        for _ in range(MOST_TRIALS):
            make_rectangular(self.captures)
            plan = self.plan()
            failure = self._failure(plan)
            if failure is None:
                self._spare_numbers()
                return self.plan()  # with the least number of channels that the trials have shown
            self._repair(failure)
        for seen in self.captures:
            for labels in seen.tensors.values():
                for array in labels:
                    seen.ids.freeze(array, "its sizes do not follow when it is narrower")
        return self.plan()

    def plan(self) -> ChannelPlan:
        size = len(first_tensor(self.inputs))
        return build_plan(self.copy, self.captures, self.rules, self.choices, size)

    def is_inner(self, module: str, groups: int, per_group: int) -> bool:
        """The choice for a grouped convolution, made once for the full network."""
        return self.inner.setdefault(module, groups <= FEW_GROUPS and per_group > LARGE_GROUP)

    def follow(self) -> list[Capture]:
        """Follow all channels of the full copy, in each mode that runs modules of its own."""
        ids = ChannelIds()
        labels = fresh_labels(self.copy, ids)
        captures = []
        for training in self.modes:
            seen = Capture(ids, labels)
            capture(self.copy, self.inputs, seen, training=training, is_inner=self.is_inner)
            captures.append(seen)
        for seen in captures:
            for output in seen.outputs:
                for array in output:
                    ids.freeze(array, "its channels are the model's output")
        for tensor in labels.keys() - set().union(*(seen.used for seen in captures)):
            for array in labels[tensor]:
                ids.freeze(array, UNUSED)
        return captures

    def _turn_inward(self) -> bool:
        """Narrow grouped convolutions inside of their groups if these cannot be dropped."""
        found = set()
        for seen in self.captures:
            for operation in seen.operations:
                if operation.name != "aten::convolution" or len(operation.inputs) < 2:
                    continue
                module = self.copy.get_submodule(operation.module)
                if getattr(module, "groups", 1) <= 1 or self.inner.get(operation.module):
                    continue
                for array in operation.inputs[0]:
                    units = seen.ids.units(array)
                    if (units == units.flat[0]).all() and units.flat[0] >= 0:
                        found.add(operation.module)
        self.inner.update(dict.fromkeys(found, True))
        return bool(found)

    def _failure(self, plan: ChannelPlan) -> Failure | None:
        found = self._first_failure(plan)
        if found is None:
            return None
        trial, failure = found
        if trial.is_least and self.choices.least == 1:  # one channel alone may be too few
            self.choices.least = 2
            return self._failure(self.plan())
        return failure

    def _first_failure(self, plan: ChannelPlan) -> tuple[_Trial, Failure] | None:
        """The first trial that fails, and how it does; that of the last failure comes first."""
        trials = _trials(plan)
        for number in sorted(range(len(trials)), key=lambda n: n != self.failed):
            trial = trials[number]
            for training, seen in zip(self.modes, self.captures, strict=True):
                follow = partial(
                    first_failure, self.copy, self.inputs, plan, trial.counts, seen,
                    training=training, is_inner=self.is_inner,
                )  # fmt: skip
                failure = follow(shapes_only=trial.shapes_only)
                if failure is not None and trial.shapes_only and not trial.is_least:
                    failure = follow() or failure  # the channels tell where it begins
                if failure is not None:
                    self.failed = number
                    return trial, failure
        return None

    def _spare_numbers(self) -> None:
        """Leave numbers alone that are equal to a size by chance, such as a temperature of 32.

        A number whose name does not say what it counts follows only where the trials need it.
        """
        doubtful = doubtful_numbers(self.copy, self.plan().attributes)
        if not doubtful or self._are_constant(doubtful):
            return
        for number in doubtful if len(doubtful) > 1 else ():
            self._are_constant([number])

    def _are_constant(self, numbers: Sequence[Number]) -> bool:
        """Keep some numbers at every width, if the trials hold."""
        before = self.choices.constants
        self.choices.constants = before | frozenset(numbers)
        if self._first_failure(self.plan()) is None:
            return True
        self.choices.constants = before
        return False

    def _repair(self, failure: Failure) -> None:
        """Link sizes that the failing line computes from each other, or keep its channels.

        All modules that run the same line are treated alike.
        """
        logger.debug("%s: %s %s", failure.module, failure.site, failure.reason)
        places = [[o for o in seen.operations if o.site == failure.site] for seen in self.captures]
        if not any(places):
            places = [
                [o for o in seen.operations if o.module == failure.module] for seen in self.captures
            ]
        if failure.site not in self.linked:
            self.linked.add(failure.site)
            pairs = self._pairs(places)
            if pairs:
                self.choices.links.extend(pairs)
                return
        reason = f"narrower, {failure.name.removeprefix('aten::')} fails ({failure.reason})"
        if not self._freeze(places, reason):
            kind = type(self.copy.get_submodule(failure.module))
            names = {n for n, m in self.copy.named_modules() if type(m) is kind}
            inside = tuple(f"{name}." if name else "" for name in names)
            rest = [
                [o for o in seen.operations if o.module in names or o.module.startswith(inside)]
                for seen in self.captures
            ]
            if not self._freeze(rest, reason):
                self._freeze([seen.operations for seen in self.captures], reason)

    def _pairs(self, places: list[list[Operation]]) -> list[tuple[np.ndarray, np.ndarray]]:
        sizes = attribute_vectors(self.copy, self.captures, len(first_tensor(self.inputs)))
        return [
            pair
            for seen, operations in zip(self.captures, places, strict=True)
            for operation in operations
            for pair in _same_sizes(seen, operation, sizes.get(operation.module, ()))
        ]

    def _freeze(self, places: list[list[Operation]], reason: str) -> bool:
        """Keep all channels of some operations; whether that changes anything."""
        changed = False
        for seen, operations in zip(self.captures, places, strict=True):
            for operation in operations:
                for labels in (*operation.inputs, *operation.outputs):
                    for array in labels:
                        changed = changed or not seen.ids.is_fixed(array).all()
                        where = f"{operation.module or 'the model'}, {operation.site}"
                        seen.ids.freeze(array, f"{reason} in {where}")
        return changed


def _same_sizes(
    seen: Capture, operation: Operation, sizes: Sequence[SizeVector]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Channels that may have to stay as many as each other: of an operation and its module."""
    own: list[np.ndarray] = []
    for shape, labels in zip(operation.shapes, operation.outputs, strict=True):
        own += [v for d in range(len(shape)) if (v := along(shape, labels, d)) is not None]
        own += [rest for array in labels for rest in _products(array)]
    for labels in operation.inputs:
        own += [a.reshape(-1) for a in labels if a.size == max(a.shape)]
    around = own + [size.ids for size in sizes]
    module = operation.module
    for shape, labels in (*seen.entered.get(module, ()), *seen.left.get(module, ())):
        around += [v for d in range(len(shape)) if (v := along(shape, labels, d)) is not None]
    pairs = []
    for number, vector in enumerate(own):
        for other in (*own[number + 1 :], *around[len(own) :]):
            if len(vector) == len(other):
                a, b = seen.ids.units(vector), seen.ids.units(other)
                if not np.array_equal(a, b):
                    pairs.append((vector, other))
    return pairs


def _products(array: np.ndarray) -> list[np.ndarray]:
    """Channels along the last two, three, ... dimensions that have some, as one vector each."""
    axes = axes_of(array)
    found = []
    for start in range(len(axes) - 1):
        front = array
        for axis in axes[:start]:
            front = front.take([0], axis)
        found.append(front.reshape(-1))
    return found


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A narrower network that must do as the full one does."""

    counts: tuple[int, ...]
    """Active channels of every group."""
    shapes_only: bool
    """Whether channels are not compared one by one, which takes ten times as long."""
    is_least: bool = False
    """Whether it has as few channels as may be, which cannot be told apart."""


def _trials(plan: ChannelPlan) -> list[_Trial]:
    """About half of the channels, about three quarters, much and little by turns, and the least.

    Each group keeps another share. Sizes that go together by chance in one of the first two do not
    in the other, but both give neighbours sizes that differ by one at most. `chunk` makes parts of
    just these sizes, whoever chose them, and joined again they have the right sum whatever they
    are. So the third gives neighbours very different sizes, and compares the channels.
    """
    if not plan.groups:
        return []

    def some(kept: Callable[[int, int], int]) -> tuple[int, ...]:
        counts = []
        for number, group in enumerate(plan.groups):
            blocks = group.size // group.step
            counts.append(group.step * min(blocks, max(2, kept(number, blocks))))
        return plan.linked(counts)

    half = some(lambda number, blocks: blocks // 2 - number % 3)
    more = some(lambda number, blocks: (3 * blocks + 3) // 4 - number % 3)
    turns = some(
        lambda number, blocks: (
            min(blocks // 4 + number % 3, blocks // 2)
            if number % 2
            else max((3 * blocks + 3) // 4 + number % 3, 4)
        )
    )
    least = plan.linked(group.step * group.least for group in plan.groups)
    return [
        _Trial(counts=half, shapes_only=False),
        _Trial(counts=more, shapes_only=True),
        _Trial(counts=turns, shapes_only=False),
        _Trial(counts=least, shapes_only=True, is_least=True),
    ]


def _modes(model: nn.Module, inputs: Any) -> tuple[list[bool], Any]:
    """The modes to follow, and the inputs to do it with.

    Returns:
        Eval mode, and train mode where it runs modules, or uses parameters, that eval mode does
        not. Of inputs with values, which are slow, the first sample alone where only train mode
        would need more.
    """
    ran: dict[bool, set[nn.Module]] = {False: set(), True: set()}
    used: dict[bool, set[int]] = {False: set(), True: set()}
    known = {id(parameter) for parameter in model.parameters()}
    outputs: Any = None
    for training in (False, True):
        handles = [
            module.register_forward_hook(
                lambda m, *_, seen=ran[training]: seen.add(m)  # type: ignore[misc]
            )
            for module in model.modules()
        ]
        try:
            with mode_of(model, training), torch.no_grad(), _Uses(known, used[training]):
                found = model(inputs)
            outputs = outputs if training else found
        except Exception as problem:
            if not training:
                raise
            logger.warning("the model does not run in train mode: %s", first_line(problem))
            return [False], _fewest(model, inputs, outputs)
        finally:
            for handle in handles:
                handle.remove()
    is_whole = ran[False] >= ran[True] and used[False] >= used[True]
    return ([False] if is_whole else [False, True]), inputs


class _Uses(TorchDispatchMode):
    """Notes which of some tensors operations take, by their addresses."""

    def __init__(self, known: set[int], used: set[int]) -> None:
        super().__init__()
        self._known = known
        self._used = used

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in (*args, *(kwargs or {}).values()):
            items = value if isinstance(value, (list, tuple)) else (value,)
            self._used |= self._known & set(map(id, items))
        return func(*args, **(kwargs or {}))


def _fewest(model: nn.Module, inputs: Any, outputs: Any) -> Any:
    """The first sample of inputs with values, if the model makes as many dimensions of it."""
    if not has_values(inputs):
        return inputs
    one = first_samples(inputs, 1)
    try:
        with mode_of(model, False), torch.no_grad():
            found = model(one)
    except Exception:  # as where a size of one is dropped
        return inputs
    ranks = [{t.dim() for t in tree_leaves(out) if isinstance(t, Tensor)}
             for out in (outputs, found)]  # fmt: skip
    return one if ranks[0] == ranks[1] else inputs


def _check_overrides(
    overrides: Mapping[str, ChannelRule] | None, plan: ChannelPlan, model: nn.Module
) -> None:
    for pattern in overrides or {}:
        if not any(re.fullmatch(pattern, name) for name, _ in model.named_modules()):
            raise ValueError(
                f"rules must match the names of layers that make channels, got {pattern!r}, which "
                f"matches none. Elastic layers: {', '.join(g.name for g in plan.groups[:6])}..."
            )
