"""A narrower copy of a model: the same class and modules, with parameters made elsewhere."""

from __future__ import annotations

import copy
import gc
import types
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mutualnet.supernet.channel_plan import ChannelPlan, Index
from mutualnet.supernet.depth_plan import is_inside


def take(tensor: Tensor, dims: Mapping[int, Index]) -> Tensor:
    """Select kept positions along some dimensions: a view where all are leading blocks.

    Args:
        tensor: Any shape.
        dims: Dimension to kept positions.
    """
    for dim, index in sorted(dims.items(), key=lambda item: isinstance(item[1], np.ndarray)):
        if isinstance(index, slice):
            if index.stop != tensor.shape[dim]:
                tensor = tensor.narrow(dim, 0, index.stop)
        else:
            tensor = tensor.index_select(dim, torch.from_numpy(index).to(tensor.device))
    return tensor


_ATOMS = {type(None), bool, int, float, complex, str, bytes, type, types.FunctionType}
_CONTAINERS = (dict, OrderedDict, list, set)
OWN = frozenset(nn.Module().__dict__)
"""Attributes that every module makes for itself; no two modules share their containers."""


@cache
def _is_plain(kind: Any) -> bool:
    """Whether a class leaves it to Python how its modules are copied."""
    return (
        not hasattr(kind, "__deepcopy__")
        and kind.__getstate__ is nn.Module.__getstate__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
    )


def detach_results(value: Any, memo: dict[int, object]) -> None:
    """See that `copy.deepcopy` copies what a forward pass has left behind, without its graph.

    By itself it refuses such a tensor, be it a cached feature or a weight that old weight norm has
    computed.

    Args:
        value: An attribute of a module.
        memo: For `copy.deepcopy`; the copies are added.
    """
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor) and not leaf.is_leaf and id(leaf) not in memo:
            memo[id(leaf)] = leaf.detach().clone()


def _copy_tree(module: nn.Module, memo: dict[int, object]) -> nn.Module:
    """What `copy.deepcopy` does, several times faster for a tree of ordinary modules.

    Most of a module's attributes are numbers, texts and empty containers of hooks, which need no
    recursion. Whatever else it has, and modules that define their own copying, go to `deepcopy`.
    """
    known = memo.get(id(module))
    if known is not None:
        assert isinstance(known, nn.Module)
        return known
    kind: Any = type(module)
    if not _is_plain(kind):
        return copy.deepcopy(module, memo)
    new = kind.__new__(kind)
    memo[id(module)] = new
    state: dict[str, object] = {}
    for name, value in module.__getstate__().items():
        if type(value) in _ATOMS or (
            type(value) is tuple and all(type(v) in _ATOMS for v in value)
        ):
            state[name] = value
        elif type(value) in _CONTAINERS and not value:
            if name in OWN:
                state[name] = type(value)()
            else:  # containers that two attributes share stay shared
                state[name] = memo.setdefault(id(value), type(value)())
        elif name == "_modules":
            children = module._modules.items()
            state[name] = {n: None if c is None else _copy_tree(c, memo) for n, c in children}
        elif name in ("_parameters", "_buffers"):
            state[name] = {
                n: memo[id(v)] if id(v) in memo else copy.deepcopy(v, memo)
                for n, v in value.items()
            }
        else:
            detach_results(value, memo)
            state[name] = copy.deepcopy(value, memo)
    new.__setstate__(state)
    return new


@contextmanager
def _no_collection() -> Iterator[None]:
    """Do not look for garbage: thousands of objects are made here, and all of them stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_no_collection()
@torch.inference_mode(False)  # what is made in that mode can never be trained
def narrow_module(
    model: nn.Module,
    plan: ChannelPlan,
    counts: Sequence[int],
    make_parameter: Callable[[str, nn.Parameter, dict[int, Index]], nn.Parameter],
    make_buffer: Callable[[str, Tensor, dict[int, Index]], Tensor],
    removed: Collection[str] = (),
) -> nn.Module:
    """Copy the structure of a model with narrower parameters and buffers.

    Args:
        model: The full model; not changed.
        plan: Its channel plan.
        counts: Active channels per group.
        make_parameter: Gets full name, full parameter and kept positions; returns the narrow one.
        make_buffer: The same for buffers.
        removed: Names of blocks that are left out: an `nn.Identity` stands in their place, so that
            names and indices of all others stay.

    Returns:
        A module of the model's own class whose plain attributes are those of the narrow network.
    """
    indices = plan.indices(counts)
    memo: dict[int, object] = {}
    kept: list[object] = []  # alive until the copy is done: the memo goes by address
    for name in removed:
        block = model.get_submodule(name)
        memo[id(block)] = nn.Identity().train(block.training)
    modules = dict(model.named_modules())
    if removed:
        modules = {path: m for path, m in modules.items() if not is_inside(path, removed)}
    for path, module in modules.items():
        before = f"{path}." if path else ""
        for attribute, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in memo:
                name = before + attribute
                memo[id(parameter)] = make_parameter(name, parameter, indices.get(name, {}))
                kept.append(parameter)
        for attribute, buffer in module._buffers.items():
            if buffer is not None and id(buffer) not in memo:
                name = before + attribute
                memo[id(buffer)] = make_buffer(name, buffer, indices.get(name, {}))
                kept.append(buffer)
    narrow = _copy_tree(model, memo)
    for path, values in plan.sizes(counts).items():
        if path not in modules:
            continue
        module = memo[id(modules[path])]
        for (name, item), value in values.items():
            known = getattr(module, name)
            if item is not None:
                changed = list(known)
                changed[item] = value
                value = type(known)(changed)
            setattr(module, name, value)
    return narrow
