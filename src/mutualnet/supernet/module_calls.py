"""Which module gets what from which: one forward pass, seen at the modules' doors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from mutualnet.module_state import mode_of

_SUMS = ("aten::add", "aten::add_")


@dataclass(slots=True)
class ModuleCall:
    """One call of a module. Tensors are numbered: the same number is the same tensor."""

    name: str
    """The module's."""
    entered: tuple[int, ...]
    left: tuple[int, ...]
    taken_shape: tuple[int, ...]
    """Of the first tensor that enters; empty if there is none."""
    made_shape: tuple[int, ...]
    """Of the first tensor that leaves."""
    adds_to_input: bool = False
    """Whether it, or a module inside, adds something of the same shape to its input."""


@dataclass
class _Watch:
    """What a pass has seen so far."""

    calls: list[ModuleCall] = field(default_factory=list)
    running: list[ModuleCall] = field(default_factory=list)
    numbers: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary)
    """By tensor; those that nobody holds any more are forgotten, so that nothing stays in memory
    for this."""
    next: int = 0

    def numbered(self, value: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Numbers of the tensors in a value, and the shape of the first."""
        tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
        return tuple(map(self.number, tensors)), tuple(tensors[0].shape) if tensors else ()

    def number(self, tensor: Tensor) -> int:
        if tensor not in self.numbers:
            self.numbers[tensor] = self.next
            self.next += 1
        return int(self.numbers[tensor])


class _Sums(TorchDispatchMode):
    """Notes whose input a sum adds to."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._schema.name in _SUMS:
            numbers = [self._watch.number(a) for a in args if isinstance(a, Tensor)]
            for call in self._watch.running:
                if call.entered and call.entered[0] in numbers and out.shape == call.taken_shape:
                    call.adds_to_input = True
        return out


def watch_calls(model: nn.Module, inputs: Any, *, training: bool) -> list[ModuleCall]:
    """Run a model once and list the calls of its modules, in the order in which they begin.

    Args:
        model: Best a copy without values.
        inputs: What it runs on.
        training: Train or eval mode.

    Raises:
        Exception: Whatever the model raises.
    """
    watch, handles = _Watch(), []
    for name, module in model.named_modules():

        def enter(_: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            entered, shape = watch.numbered((args, kwargs))
            call = ModuleCall(name, entered, (), shape, ())
            watch.calls.append(call)
            watch.running.append(call)

        def leave(_: nn.Module, __: Any, output: Any) -> None:
            call = watch.running.pop()
            call.left, call.made_shape = watch.numbered(output)

        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        with mode_of(model, training), torch.no_grad(), _Sums(watch):
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return watch.calls
