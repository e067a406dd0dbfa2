"""What a rule for channels knows of one dispatched operation, and how rules are registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from mutualnet.supernet.channel_ids import ChannelIds, Labels


class Call(Protocol):
    """One dispatched operation."""

    ids: ChannelIds
    name: str
    out: Any

    def __getitem__(self, argument: str) -> Any:
        """An argument by its name in the operation's schema."""

    def labels(self, tensor: Tensor | None) -> Labels:
        """The identities of a tensor's channels."""

    def put(self, tensor: Tensor, labels: Labels) -> None:
        """Set the identities of an output's channels."""

    def freeze(self, ids: np.ndarray, why: str) -> None:
        """Keep channels at every width, because of this operation."""

    def is_inner(self, groups: int, per_group: int) -> bool:
        """Whether a grouped convolution is narrowed inside of each of its groups."""

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether a tensor was made with one value everywhere, and not written to since."""

    def tensors(self) -> list[Tensor]:
        """All tensors among the inputs."""


Rule = Callable[[Call], None]
RULES: dict[str, Rule] = {}
"""Rules by the name of the operation, without its overload."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of some operations."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def dims_of(dims: Any, rank: int) -> list[int]:
    """Dimensions counted from the front; all of them where none is named."""
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        return list(range(rank))
    if isinstance(dims, int):
        dims = [dims]
    return [d % rank if rank else 0 for d in dims]


def freeze_along(call: Call, labels: Labels, dims: Sequence[int], why: str) -> Labels:
    """Labels without those along some dimensions, which are frozen."""
    kept = []
    for ids in labels:
        if any(ids.shape[d] > 1 for d in dims):
            call.freeze(ids, why)
        else:
            kept.append(ids)
    return tuple(kept)


def first_input(call: Call) -> Tensor:
    """The first tensor among the inputs."""
    tensor: Tensor = call.tensors()[0]
    return tensor


def outputs_of(call: Call) -> list[Tensor]:
    """All tensors among the outputs."""
    outs = call.out if isinstance(call.out, (list, tuple)) else [call.out]
    return [t for t in outs if isinstance(t, Tensor)]


def argument(call: Call, name: str) -> Any:
    """An argument; None if the operation has none of that name."""
    try:
        return call[name]
    except KeyError:
        return None


def map_labels(call: Call, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Do one thing to every array of the first input."""
    call.put(call.out, tuple(change(ids) for ids in call.labels(first_input(call))))
