"""How channels pass through each operation that PyTorch dispatches.

A rule gets the identities of an operation's inputs and says those of its outputs. Views do to the
array of identities what they do to the tensor; sums, products and normalisations unite what meets;
reductions drop dimensions. An operation without a rule keeps all channels that reach it.
"""

from __future__ import annotations

from typing import Any

import torch

from mutualnet.supernet import (
    op_pointwise,
    op_positions,
    op_products,
    op_recurrent,
    op_views,
)
from mutualnet.supernet.op_calls import RULES, Call, Rule

_REGISTERED = (op_pointwise, op_positions, op_products, op_recurrent, op_views)
"""Importing them registers their rules."""

_NO_CHANNELS = {
    "aten::empty", "aten::zeros", "aten::ones", "aten::full", "aten::arange", "aten::linspace",
    "aten::new_zeros", "aten::new_ones", "aten::new_empty", "aten::new_full", "aten::eye",
    "aten::rand", "aten::randn", "aten::randperm", "aten::scalar_tensor", "aten::empty_strided",
    "aten::new_empty_strided", "aten::randint", "aten::_local_scalar_dense",
    "aten::nonzero", "aten::equal", "aten::set_", "torchvision::nms",
    "aten::_assert_async", "aten::_assert_scalar", "aten::bincount",
    "aten::_assert_tensor_metadata",
}  # fmt: skip


def _nothing(_: Call) -> None:
    return


for _name in _NO_CHANNELS:
    RULES[_name] = _nothing


def rule_of(func: Any) -> Rule | None:
    """The rule of an operation; None if there is none."""
    name = func._schema.name
    known = RULES.get(name)
    is_pointwise = torch.Tag.pointwise in func.tags
    if known is None and name.endswith("_") and not name.endswith("__"):
        known = RULES.get(name[:-1])
        is_pointwise = is_pointwise or _is_tagged(name[:-1], func._overloadname)
    if known is None and is_pointwise:
        return op_pointwise.pointwise_rule
    return known


def _is_tagged(name: str, overload: str) -> bool:
    """Whether PyTorch calls an operation pointwise; of those in place older ones do not say it."""
    space, _, short = name.partition("::")
    operation = getattr(getattr(torch.ops, space), short, None)
    found = getattr(operation, overload, None)
    return found is not None and torch.Tag.pointwise in found.tags
