"""Rules for operations, against the operation itself on a tensor that holds the identities."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from mutualnet.supernet.capture import Capture, capture, fresh_labels
from mutualnet.supernet.channel_ids import ChannelIds
from mutualnet.supernet.op_calls import RULES
from mutualnet.supernet.op_rules import rule_of
from mutualnet.supernet.shape_pass import shape_pass


class OnParameter(nn.Module):
    """Does something to a parameter, and keeps what came out."""

    def __init__(self, function, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.values = nn.ParameterList(torch.zeros(shape) for shape in shapes)
        self.function = function
        self.out: object = None

    def forward(self, x: Tensor) -> Tensor:
        self.out = self.function(*self.values)
        return x


def _follow(function, *shapes: tuple[int, ...]) -> tuple[OnParameter, ChannelIds, Capture]:
    model = OnParameter(function, *shapes)
    ids = ChannelIds()
    seen = Capture(ids, fresh_labels(model, ids))
    capture(model, torch.zeros(1), seen, training=False, is_inner=lambda *_: False)
    return model, ids, seen


def _labels(tensor: Tensor) -> tuple[np.ndarray, ...]:
    return tensor._channel_ids[1]


VIEWS = {
    "view": lambda w: w.view(2, 3, 20),
    "flatten": lambda w: w.flatten(),
    "permute": lambda w: w.permute(2, 0, 1),
    "transpose": lambda w: w.transpose(0, 2).reshape(20, 6),
    "unsqueeze": lambda w: w.unsqueeze(1),
    "squeeze": lambda w: w[:, None].squeeze(1),
    "expand": lambda w: w[None].expand(3, 6, 4, 5),
    "repeat": lambda w: w.repeat(2, 1, 3),
    "repeat_interleave": lambda w: w.repeat_interleave(2, 0),
    "slice": lambda w: w[1:5:2],
    "select": lambda w: w[:, 2],
    "narrow": lambda w: w.narrow(0, 1, 3),
    "split": lambda w: torch.split(w, [2, 4])[1],
    "chunk": lambda w: w.chunk(2, 1)[1],
    "unbind": lambda w: w.unbind(2)[3],
    "flip": lambda w: w.flip(0, 2),
    "roll": lambda w: w.roll(2, 0),
    "cat": lambda w: torch.cat([w[3:], w[:3]]),
    "stack": lambda w: torch.stack([w, w], 1),
    "shuffle": lambda w: w.view(2, 3, 4, 5).transpose(0, 1).reshape(6, 4, 5),
    "movedim": lambda w: w.movedim(0, -1),
    "relu": lambda w: w.relu(),
    "softmax": lambda w: w.softmax(0),
    "unflatten": lambda w: w.unflatten(0, (3, 2)),
}


@pytest.mark.parametrize("name", sorted(VIEWS))
@pytest.mark.parametrize("held", [0, 1, 2])
def test_a_view_does_to_the_identities_what_it_does_to_the_tensor(name, held):
    model, ids, seen = _follow(VIEWS[name], (6, 4, 5))
    given = seen.tensors[id(model.values[0])][held]
    found = _labels(model.out)
    tensor = torch.from_numpy(np.broadcast_to(given, (6, 4, 5)).copy()).double()
    expected = VIEWS[name](tensor)
    if name in ("relu", "softmax"):
        expected = tensor
    mine = {int(i) for i in given.reshape(-1)}
    carried = [a for a in found if mine & {int(i) for i in a.reshape(-1)}]
    if not carried:  # it left no more than one of these channels, which then stays
        left = np.unique(expected.numpy())
        assert len(left) == 1
        assert ids.is_fixed(left.astype(np.int64)).all()
        return
    (array,) = carried
    assert np.array_equal(np.broadcast_to(array, expected.shape), expected.numpy())


def _tied(ids: ChannelIds, *arrays: np.ndarray) -> bool:
    first = ids.find(arrays[0].reshape(-1))
    return all(np.array_equal(first, ids.find(a.reshape(-1))) for a in arrays[1:])


def test_products_unite_what_they_sum_over():
    cases = [
        (lambda a, b: a @ b, (3, 4), (4, 5), 1, 0),
        (lambda a, b: torch.einsum("bik,bjk->bij", a, b), (2, 3, 4), (2, 5, 4), 2, 2),
        (lambda a, b: F.linear(a, b), (3, 4), (5, 4), 1, 1),
        (lambda a, b: F.conv2d(a, b), (2, 4, 5, 5), (3, 4, 1, 1), 1, 1),
        (lambda a, b: F.conv_transpose2d(a, b), (2, 4, 5, 5), (4, 3, 1, 1), 1, 0),
    ]
    for function, left, right, i, j in cases:
        model, ids, seen = _follow(function, left, right)
        a, b = (seen.tensors[id(v)] for v in model.values)
        dims = [d for d, s in enumerate(left) if s > 1], [d for d, s in enumerate(right) if s > 1]
        assert _tied(ids, a[dims[0].index(i)], b[dims[1].index(j)])


def test_whole_blocks_of_a_grouped_convolution_stay_or_go():
    model, ids, seen = _follow(lambda x, w: F.conv2d(x, w, groups=2), (2, 8, 3, 3), (6, 4, 1, 1))
    x, w = (seen.tensors[id(v)] for v in model.values)
    inputs, outputs = ids.find(x[1].reshape(2, 4)), ids.find(w[0].reshape(2, 3))
    assert (inputs == inputs[:, :1]).all()
    assert (outputs == inputs[:, :1]).all()
    assert inputs[0, 0] != inputs[1, 0]
    assert ids.is_fixed(w[1]).all()  # they are inside of a block


def test_sums_unite_and_a_tensor_without_channels_fixes():
    model, ids, seen = _follow(lambda a, b: a + b, (6,), (6,))
    assert _tied(ids, *(seen.tensors[id(v)][0] for v in model.values))
    model, ids, seen = _follow(lambda a: a + torch.zeros(6), (6,))
    assert ids.is_fixed(seen.tensors[id(model.values[0])][0]).all()
    model, ids, seen = _follow(lambda a: a * torch.zeros(1), (6,))
    assert not ids.is_fixed(seen.tensors[id(model.values[0])][0]).any()


def test_one_scale_for_all_heads_keeps_the_heads_whole():
    def function(weight: Tensor, scale: Tensor) -> Tensor:
        return weight.view(3, 4) * scale

    model, ids, seen = _follow(function, (12,), (4,))
    heads = ids.find(seen.tensors[id(model.values[0])][0].reshape(3, 4))
    assert (heads == heads[:, :1]).all()
    assert len(np.unique(heads)) == 3
    assert ids.is_fixed(seen.tensors[id(model.values[1])][0]).all()


def test_reductions_drop_dimensions_and_tie_what_is_summed():
    model, ids, seen = _follow(lambda w: w.view(2, 3).sum(0), (6,))
    columns = ids.find(seen.tensors[id(model.values[0])][0].reshape(2, 3))
    assert (columns[0] == columns[1]).all()
    assert len(np.unique(columns)) == 3
    model, ids, seen = _follow(lambda w: w.mean(0, keepdim=True), (6, 5))
    (left,) = _labels(model.out)
    assert left.shape == (1, 5)


ROWS = torch.tensor([0, 2])


def _put(target, values, index=ROWS):
    target[index] = values
    return target


WRITTEN = {
    "into zeros": lambda a: _put(torch.zeros(4, 6), a[None].expand(2, 6)),
    "into zeros, one for all rows": lambda a: _put(torch.zeros(4, 6), a),
    "into other channels": lambda a, b: _put(b[None].repeat(4, 1), a),
    "into a copy of zeros": lambda a: _put(torch.zeros(4, 6).clone(), a),
    "into a view of zeros": lambda a: torch.zeros(24).view(4, 6).index_put((ROWS,), a),
    "twice": lambda a, b: _put(_put(torch.zeros(4, 6), a), b[None].expand(2, 6)),
    "to pairs of places": lambda a: torch.zeros(4, 5, 6).index_put((ROWS, ROWS), a),
}


@pytest.mark.parametrize("how", sorted(WRITTEN))
def test_channels_that_are_written_to_chosen_rows_are_those_of_the_whole(how):
    function = WRITTEN[how]
    shapes = [(6,)] * function.__code__.co_argcount
    model, ids, seen = _follow(function, *shapes)
    (made,) = _labels(model.out)
    assert made.shape == (1,) * (made.ndim - 1) + (6,)
    first = seen.tensors[id(model.values[0])][0]
    assert _tied(ids, made.reshape(-1), *(seen.tensors[id(v)][0] for v in model.values))
    assert not ids.is_fixed(first).any()


def _filled(target):
    target[:, -1] = 5.0
    return target


KEPT = {
    "numbers from elsewhere": lambda a: _put(torch.arange(24.0).view(4, 6), a),
    "zeros that were written to": lambda a: _put(torch.zeros(4, 6).add_(torch.arange(6)), a),
    "zeros with a part that was written to": lambda a: _put(_filled(torch.zeros(4, 6)), a),
    "a part of a tensor": lambda a: _put(torch.zeros(4, 2, 6)[:, 0], a),
    "rows of a mask": lambda a: _put(torch.zeros(4, 6), a, torch.tensor([1, 0, 1, 0]) == 1),
}


@pytest.mark.parametrize("how", sorted(KEPT))
def test_channels_that_are_written_to_something_else_stay(how):
    model, ids, seen = _follow(KEPT[how], (6,))
    assert ids.is_fixed(seen.tensors[id(model.values[0])][0]).all()


def test_tensors_without_storage_pass_by():
    def function(a: Tensor) -> Tensor:
        sparse = torch.zeros(3, 3).to_sparse()
        return a + sparse.clone().zero_().to_dense().sum()

    model, ids, seen = _follow(function, (6,))
    assert not ids.is_fixed(seen.tensors[id(model.values[0])][0]).any()


def test_an_index_along_the_channels_keeps_them():
    model, ids, seen = _follow(lambda a: _put(torch.zeros(6, 4), a[:2, None].expand(2, 4)), (6,))
    assert ids.is_fixed(seen.tensors[id(model.values[0])][0][:2]).all()


def test_recurrent_layers_start_from_what_is_the_same_in_all_channels():
    def gru(state):
        def function(w_ih: Tensor, w_hh: Tensor) -> Tensor:
            with shape_pass():
                return torch.gru(torch.zeros(2, 1, 4), state(), [w_ih, w_hh],
                                 False, 1, 0.0, False, False, False)[0]  # fmt: skip

        return function

    for state, is_elastic in (
        (lambda: torch.zeros(1, 1, 6), True),
        (lambda: torch.zeros(6).view(1, 1, 6).to(torch.float64).float(), True),
        (lambda: torch.arange(6.0).view(1, 1, 6), False),
        (lambda: _filled(torch.zeros(1, 6))[None], False),
    ):
        model, ids, seen = _follow(gru(state), (18, 4), (18, 6))
        rows, columns = seen.tensors[id(model.values[1])]
        assert _tied(ids, rows.reshape(-1)[:6], columns.reshape(-1))
        assert set(ids.is_fixed(columns).reshape(-1).tolist()) == {not is_elastic}


def test_what_no_rule_knows_keeps_its_channels():
    model, ids, seen = _follow(torch.linalg.eigvalsh, (4, 4))
    for array in seen.tensors[id(model.values[0])]:
        assert ids.is_fixed(array).all()
        assert "linalg_eigh" in ids.reason(int(array.flat[0]))
        assert "test_op_rules.py" in ids.reason(int(array.flat[0]))  # the line that runs it


def test_every_rule_is_that_of_an_operation_which_pytorch_has():
    assert torchvision.__version__  # it registers its own operations
    for name in RULES:
        space, operation = name.split("::")
        assert hasattr(getattr(torch.ops, space), operation), name


def test_what_a_pass_leaves_in_a_buffer_counts_in_that_pass_alone():
    class Moving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(6))
            self.register_buffer("mean", torch.zeros(6))

        def forward(self, x: Tensor) -> Tensor:
            self.mean.mul_(0.9).add_(self.weight)
            return x

    model = Moving()
    for skipped in (0, 5):  # other numbers than in the pass before
        ids = ChannelIds()
        ids.new(skipped)
        seen = Capture(ids, fresh_labels(model, ids))
        capture(model, torch.zeros(1), seen, training=False, is_inner=lambda *_: False)
        weight, mean = (seen.tensors[id(t)][0] for t in (model.weight, model.mean))
        assert _tied(ids, weight, mean)


def test_in_place_operations_have_the_rule_of_the_others():
    assert rule_of(torch.ops.aten.add_.Tensor) is rule_of(torch.ops.aten.add.Tensor)
    assert rule_of(torch.ops.aten._linalg_eigh.default) is None


@pytest.mark.parametrize("name", ["hardtanh", "elu", "selu", "hardsigmoid", "leaky_relu", "silu"])
def test_activations_in_place_have_a_rule_where_pytorch_does_not_tag_them(name):
    untagged = SimpleNamespace(
        _schema=SimpleNamespace(name=f"aten::{name}_"), _overloadname="default", tags=[]
    )
    assert rule_of(untagged) is rule_of(getattr(torch.ops.aten, name).default) is not None
