"""One forward pass without values, in which every channel is followed through every operation."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mutualnet.module_state import mode_of
from mutualnet.supernet.channel_ids import (
    ChannelIds,
    Labels,
    MisalignedError,
    TooManyIdsError,
    axes_of,
)
from mutualnet.supernet.op_rules import rule_of

_SAME = {"aten::clone", "aten::detach", "aten::alias", "aten::_to_copy", "aten::lift_fresh"}
"""Operations that change no channel; whether they run depends on the layout in memory."""
_VIEWS = {"aten::_unsafe_view", "aten::_reshape_alias", "aten::reshape"}
"""Other names of a view, which depend on the layout too."""
_CONSTANTS = {
    "aten::zeros", "aten::ones", "aten::full", "aten::new_zeros", "aten::new_ones",
    "aten::new_full", "aten::zeros_like", "aten::ones_like", "aten::full_like",
}  # fmt: skip
_LIBRARIES = tuple(f"{path}/" for path in (Path(torch.__file__).parent, Path(__file__).parents[1]))


@dataclass(frozen=True, slots=True)
class Site:
    """A line of code that runs operations, the same for every module that runs it."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{'/'.join(Path(self.file).parts[-2:])}:{self.line}"


@dataclass(slots=True)
class Operation:
    """What one dispatched operation did to the channels."""

    name: str
    module: str
    """The innermost module that ran it, by its full name."""
    site: Site
    inputs: tuple[Labels, ...]
    outputs: tuple[Labels, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Of the outputs."""


@dataclass
class Capture:
    """All operations of one forward pass, and the channels of whatever has some."""

    ids: ChannelIds
    tensors: dict[int, Labels]
    """By the address of a parameter or buffer."""
    used: set[int] = field(default_factory=set)
    """Those of them that any operation took."""
    operations: list[Operation] = field(default_factory=list)
    entered: dict[str, list[tuple[tuple[int, ...], Labels]]] = field(default_factory=dict)
    left: dict[str, list[tuple[tuple[int, ...], Labels]]] = field(default_factory=dict)
    """Shapes and labels of the tensors that go into and come out of each module, by its name."""
    outputs: list[Labels] = field(default_factory=list)
    """Labels of the model's output."""
    output_shapes: list[tuple[int, ...]] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    """Names of the modules that run now, the innermost last; where it stopped after an error."""
    site: Site = Site("", 0)
    """The line that runs now."""
    name: str = ""
    """The operation that runs now."""


class _Call:
    """One dispatched operation, as its rule sees it."""

    def __init__(self, mode: _Mode, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        self._mode = mode
        self.ids = mode.result.ids
        self.name: str = func._schema.name
        self.out = out
        self._func, self._args, self._kwargs = func, args, kwargs
        self._bound: dict[str, Any] | None = None

    def written(self) -> list[Tensor]:
        """The arguments that the operation changes."""
        found: list[Tensor] = []
        for argument in self._func._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = self[argument.name]
                values = value if isinstance(value, (list, tuple)) else (value,)
                found.extend(v for v in values if isinstance(v, Tensor))
        return found

    def __getitem__(self, argument: str) -> Any:
        if self._bound is None:
            names = self._func._schema.arguments
            bound = {a.name: a.default_value for a in names if a.has_default_value()}
            bound.update(zip((a.name for a in names), self._args, strict=False))
            bound.update(self._kwargs)
            if "input" not in bound and "self" in bound:
                bound["input"] = bound["self"]
            self._bound = bound
        return self._bound[argument]

    def labels(self, tensor: Tensor | None) -> Labels:
        return () if tensor is None else self._mode.labels(tensor)

    def put(self, tensor: Tensor, labels: Labels) -> None:
        # One channel alone is no axis of channels.
        self._mode.put(tensor, tuple(ids for ids in labels if ids.size > 1))

    def freeze(self, ids: np.ndarray, why: str) -> None:
        self.ids.freeze(ids, f"{why} ({self.name.removeprefix('aten::')} in {self._mode.where()})")

    def is_inner(self, groups: int, per_group: int) -> bool:
        return self._mode.is_inner(groups, per_group)

    def is_constant(self, tensor: Tensor) -> bool:
        return self._mode.is_constant(tensor)

    def tensors(self) -> list[Tensor]:
        # Arguments are flat but for lists of tensors, which is faster than any tree.
        found: list[Tensor] = []
        for value in (*self._args, *self._kwargs.values()):
            if isinstance(value, Tensor):
                found.append(value)
            elif isinstance(value, (list, tuple)):
                found.extend(item for item in value if isinstance(item, Tensor))
        return found


class _Mode(TorchDispatchMode):
    """Runs every operation and then its rule."""

    def __init__(
        self,
        result: Capture,
        is_inner: Callable[[str, int, int], bool],
        check: Callable[[Operation], None] | None,
        observe: Callable[[_Call], None] | None,
    ) -> None:
        super().__init__()
        self.result = result
        self._is_inner = is_inner
        self._check = check
        self._observe = observe
        self._constants: dict[int, Any] = {}
        """Storages with one value everywhere, by their addresses."""

    def labels(self, tensor: Tensor) -> Labels:
        # Buffers that a pass changes in place live on: what they carry counts in that pass alone.
        owner, labels = getattr(tensor, "_channel_ids", (None, ()))
        known: Labels = labels if owner is self else self.result.tensors.get(id(tensor), ())
        return known

    def put(self, tensor: Tensor, labels: Labels) -> None:
        tensor._channel_ids = (self, labels)  # type: ignore[attr-defined]

    def is_constant(self, tensor: Tensor) -> bool:
        has_storage = tensor.layout is torch.strided
        return has_storage and tensor.untyped_storage()._cdata in self._constants

    def _note_constants(self, call: _Call, func: Any, inputs: list[Tensor]) -> None:
        is_copy = call.name in _SAME and all(map(self.is_constant, inputs))
        is_made = isinstance(call.out, Tensor) and call.out.layout is torch.strided
        if (call.name in _CONSTANTS or is_copy) and is_made:
            storage = call.out.untyped_storage()
            self._constants[storage._cdata] = storage
        elif func._schema.is_mutable:
            for written in filter(self.is_constant, call.written()):
                del self._constants[written.untyped_storage()._cdata]

    def where(self) -> str:
        module = self.result.stack[-1] if self.result.stack else ""
        return f"{module or 'the model'}, {self.result.site}"

    def is_inner(self, groups: int, per_group: int) -> bool:
        module = self.result.stack[-1] if self.result.stack else ""
        return self._is_inner(module, groups, per_group)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = self.result
        result.site, result.name = _site(sys._getframe(1)), _plain_name(func)
        out = func(*args, **kwargs)
        call = _Call(self, func, args, kwargs, out)
        inputs = call.tensors()
        result.used.update(i for i in map(id, inputs) if i in result.tensors)
        before = tuple(self.labels(t) for t in inputs)
        if any(before):
            self._apply(call, func, before)
        self._note_constants(call, func, inputs)
        outs = [t for t in (out if isinstance(out, (list, tuple)) else (out,))
                if isinstance(t, Tensor)]  # fmt: skip
        if self._observe is not None:
            self._observe(call)
        if call.name in _SAME:
            return out
        operation = Operation(
            name=result.name,
            module=result.stack[-1] if result.stack else "",
            site=result.site,
            inputs=before,
            outputs=tuple(self.labels(t) for t in outs),
            shapes=tuple(tuple(t.shape) for t in outs),
        )
        if self._check is not None:
            self._check(operation)
        result.operations.append(operation)
        return out

    def _apply(self, call: _Call, func: Any, before: tuple[Labels, ...]) -> None:
        rule = rule_of(func)
        try:
            if rule is not None:
                rule(call)
                return
            why = "no rule says how channels pass"
        except MisalignedError:
            raise
        except TooManyIdsError:
            why = "too many positions merge with them"
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as problem:
            why = f"channels cannot be followed here: {type(problem).__name__} {problem}"
        for labels in before:
            for ids in labels:
                call.freeze(ids, why)


def _plain_name(func: Any) -> str:
    name: str = func._schema.name
    return "aten::view" if name in _VIEWS else name


def _site(frame: FrameType | None) -> Site:
    """The nearest line outside of PyTorch and of this package's machinery."""
    while frame is not None:
        name = frame.f_code.co_filename
        if _is_model_code(name):
            return Site(name, frame.f_lineno)
        if name == __file__ and frame.f_code.co_name == "capture":
            break
        frame = frame.f_back
    return Site("", 0)


def _is_model_code(file: str) -> bool:
    return not file.startswith(_LIBRARIES) and not file.startswith("<")


def site_of(problem: BaseException) -> Site | None:
    """The line of a model's code that an error came from; None if there is none."""
    found = None
    for frame, line in traceback.walk_tb(problem.__traceback__):
        file = frame.f_code.co_filename
        if found is None and file == __file__ and frame.f_code.co_name == "capture":
            found = Site("", 0)  # frames before this one belong to whoever traces
        elif found is not None and _is_model_code(file):
            found = Site(file, line)
    return found if found is not None and found.file else None


def capture(
    model: nn.Module,
    inputs: Any,
    result: Capture,
    *,
    training: bool,
    is_inner: Callable[[str, int, int], bool],
    check: Callable[[Operation], None] | None = None,
    observe: Callable[[_Call], None] | None = None,
) -> Capture:
    """Follow all channels through one forward pass.

    Args:
        model: Runs on `inputs`, best without values on the meta device. Not changed.
        inputs: (N, C, ...).
        result: Holds the channels of the parameters; what is found is added to it.
        training: Train or eval mode.
        is_inner: Whether a module's grouped convolution (name, groups, channels per group) is
            narrowed inside of each group.
        check: Called with the record of each operation; may raise.
        observe: Called with each operation itself.

    Raises:
        Exception: Whatever the model raises; `result.stack` then says where.
    """
    mode = _Mode(result, is_inner, check, observe)
    with _named_calls(model, result, mode.labels), mode_of(model, training), torch.no_grad(), mode:
        output = model(inputs)
    for tensor in tree_leaves(output):
        if isinstance(tensor, Tensor):
            result.outputs.append(mode.labels(tensor))
            result.output_shapes.append(tuple(tensor.shape))
    return result


@contextmanager
def _named_calls(
    model: nn.Module, result: Capture, labels_of: Callable[[Tensor], Labels]
) -> Iterator[None]:
    """Keep the names of the modules that run, and what goes into and out of each."""
    handles = []

    def note(known: list[tuple[tuple[int, ...], Labels]], value: Any) -> None:
        for tensor in tree_leaves(value):
            if isinstance(tensor, Tensor):
                labels = labels_of(tensor)
                if labels:
                    known.append((tuple(tensor.shape), labels))

    for name, module in model.named_modules():

        def enter(_: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            result.stack.append(name)
            note(result.entered.setdefault(name, []), (args, kwargs))

        def leave(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
            note(result.left.setdefault(name, []), output)
            result.stack.pop()

        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def fresh_labels(model: nn.Module, ids: ChannelIds) -> dict[int, Labels]:
    """Identities for every dimension of every parameter and buffer, by the tensor's address."""
    found: dict[int, Labels] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.is_floating_point() and not tensor.is_complex():
            continue
        found[id(tensor)] = tuple(
            ids.new(size).reshape([size if d == dim else 1 for d in range(tensor.dim())])
            for dim, size in enumerate(tensor.shape)
            if size > 1
        )
    return found


def support(labels: Labels, dim: int) -> np.ndarray | None:
    """The array of labels that has channels along a dimension; None if none has."""
    return next((ids for ids in labels if dim in axes_of(ids)), None)


def along(shape: Sequence[int], labels: Labels, dim: int) -> np.ndarray | None:
    """(size,) identities along a dimension, those of the first row where there are several."""
    array = support(labels, dim)
    if array is None or array.shape[dim] != shape[dim]:
        return None
    return np.moveaxis(array, dim, 0).reshape(shape[dim], -1)[:, 0]
