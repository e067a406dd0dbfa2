"""Recurrent layers (LSTM, GRU, plain) as one operation, and how channels pass through it.

PyTorch dispatches a recurrent layer as the same few products for every step over time. In a pass
for shapes the whole layer is one operation: its weights say all there is to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mutualnet.supernet.channel_ids import axes_of
from mutualnet.supernet.op_calls import Call, freeze_along, outputs_of, rule
from mutualnet.supernet.op_meeting import meet
from mutualnet.supernet.op_products import contract_labels

RECURRENT = "mutualnet::recurrent"
"""The operation's name."""

_library = torch.library.Library("mutualnet", "DEF")
_library.define(
    "recurrent(Tensor x, Tensor[] states, Tensor[] weights, bool has_biases, int num_layers, "
    "bool is_bidirectional, bool is_batch_first) -> Tensor[]"
)
_LAYERS = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}


class OneOperation(TorchFunctionMode):
    """Recurrent layers are one operation, which computes nothing but shapes.

    Packed sequences and LSTMs with a projection run step by step, as PyTorch has them.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A packed sequence has its batch sizes where others have their states.
        if func in _LAYERS and not kwargs and len(args) == 9 and isinstance(args[3], bool):
            x, first, weights, has_biases, num_layers, _, _, is_bidirectional, is_batch_first = args
            states = [first] if isinstance(first, Tensor) else list(first)
            directions = 2 if is_bidirectional else 1
            if len(weights) == num_layers * directions * (4 if has_biases else 2):
                made = torch.ops.mutualnet.recurrent(
                    x, states, weights, has_biases, num_layers, is_bidirectional, is_batch_first
                )
                return tuple(made)
        return func(*args, **(kwargs or {}))


def cells(call: Call) -> list[Sequence[Tensor]]:
    """The weights of each layer and direction: of the input, of the hidden state, and biases."""
    return _cells(call["weights"], call["has_biases"])


def _cells(weights: Sequence[Tensor], has_biases: bool) -> list[Sequence[Tensor]]:
    size = 4 if has_biases else 2
    return [weights[first : first + size] for first in range(0, len(weights), size)]


@torch.library.impl(_library, "recurrent", "CompositeExplicitAutograd")
def _run(
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    is_bidirectional: bool,
    is_batch_first: bool,
) -> list[Tensor]:
    """Zeros in the shapes of what a layer puts out and of its last states.

    Raises:
        ValueError: If the layer would not run.
    """
    directions = 2 if is_bidirectional else 1
    batch = x.shape[0 if is_batch_first else 1]
    rows, hidden = weights[1].shape
    for number, cell in enumerate(_cells(weights, has_biases)):
        entering = x.shape[2] if number < directions else directions * hidden
        expected = [(rows, entering), (rows, hidden), (rows,), (rows,)][: len(cell)]
        _check("weights", [tuple(w.shape) for w in cell], expected)
    shape = (num_layers * directions, batch, hidden)
    _check("states", [tuple(state.shape) for state in states], [shape] * len(states))
    made = x.new_zeros((*x.shape[:2], directions * hidden))
    return [made, *(state.new_zeros(shape) for state in states)]


def _check(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise ValueError(f"a recurrent layer's {what} must have the shapes {expected}, got {got}")


@rule(RECURRENT)
def _recurrent(call: Call) -> None:
    """Gates, states and outputs hold the same hidden channels, in every layer and direction."""
    x, directions = call["x"], 2 if call["is_bidirectional"] else 1
    time, batch = (1, 0) if call["is_batch_first"] else (0, 1)
    labels = freeze_along(call, call.labels(x), (time,), "a recurrent layer steps over them")
    samples = tuple(ids for ids in labels if axes_of(ids) == (batch,))
    others = tuple(ids for ids in labels if axes_of(ids) != (batch,))
    others = freeze_along(call, others, (batch,), "a recurrent layer takes them one by one")
    entering = _Vectors(x.shape[2], [ids.reshape(-1) for ids in others])
    hidden = _Vectors(call["weights"][1].shape[1], _first_states(call))
    is_odd = any(
        not call.is_constant(state) and not any(axes_of(ids) == (2,) for ids in call.labels(state))
        for state in call["states"]
    )
    for number, cell in enumerate(cells(call)):
        if number and number % directions == 0:  # what the layer before has put out
            entering = hidden.repeated(directions)
        hidden = _after(call, entering, hidden, cell)
    for ids in hidden.labels if is_odd else ():
        call.freeze(ids, "they start from a tensor without channels")
    made, *last = outputs_of(call)
    out = hidden.repeated(directions).labels
    call.put(made, (*(ids.reshape(1, 1, -1) for ids in out), *samples))
    of_state = tuple(ids.reshape(1, -1, 1) for ids in samples)
    for state in last:
        call.put(state, (*(ids.reshape(1, 1, -1) for ids in hidden.labels), *of_state))


@dataclass(frozen=True, slots=True)
class _Vectors:
    """Labels along one dimension, (size,) each."""

    size: int
    labels: list[np.ndarray]

    def repeated(self, times: int) -> _Vectors:
        return _Vectors(self.size * times, [np.tile(ids, times) for ids in self.labels])


def _first_states(call: Call) -> list[np.ndarray]:
    """Labels of the states that it starts from; zeros need none."""
    return [
        ids.reshape(-1)
        for state in call["states"]
        for ids in freeze_along(
            call, call.labels(state), (0, 1), "a recurrent layer starts from them"
        )
    ]


def _after(call: Call, entering: _Vectors, hidden: _Vectors, cell: Sequence[Tensor]) -> _Vectors:
    """The hidden channels after one layer in one direction."""
    of_input, of_state, *biases = cell
    size, rows = hidden.size, of_input.shape[0]

    def gates(of: _Vectors, weight: Tensor, bias: Sequence[Tensor]) -> list[np.ndarray]:
        made = contract_labels(
            call, "k,nk->n", (of.size,), of.labels, tuple(weight.shape), call.labels(weight)
        )
        for added in bias:
            made = meet(call, 1, ((rows,), made), ((rows,), call.labels(added)))
        return [call.ids.tie(ids.reshape(-1, size), [0]).reshape(-1) for ids in made]

    known = gates(entering, of_input, biases[:1])
    for ids in hidden.labels:
        known = meet(call, 1, ((size,), known), ((size,), [ids]))
    again = gates(_Vectors(size, known), of_state, biases[1:])
    return _Vectors(size, meet(call, 1, ((size,), known), ((size,), again)))
