"""How channels pass through each operation that PyTorch dispatches.

A rule gets the identities of an operation's inputs and says those of its outputs. Views do to the
array of identities what they do to the tensor; sums, products and normalisations unite what meets;
reductions drop dimensions. An operation without a rule keeps all channels that reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mutualnet.supernet.channel_ids import ChannelIds, Labels, axes_of, reshape_ids

__all__ = ["RULES", "Call", "pointwise_rule", "rule_of"]


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

    def tensors(self) -> list[Tensor]:
        """All tensors among the inputs."""


Rule = Callable[[Call], None]
RULES: dict[str, Rule] = {}
"""Rules by the name of the operation, without its overload."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def rule_of(func: Any) -> Rule | None:
    """The rule of an operation; None if there is none."""
    name = func._schema.name
    known = RULES.get(name)
    if known is None and name.endswith("_") and not name.endswith("__"):
        known = RULES.get(name[:-1])
    if known is None and torch.Tag.pointwise in func.tags:
        return pointwise_rule
    return known


# --------------------------------------------------------------------------------- what meets


class _Met:
    """Labels that meet in one index space, as in sums and products."""

    def __init__(self, call: Call, rank: int) -> None:
        self.call = call
        self.rank = rank
        self.operands: list[tuple[tuple[int, ...], list[np.ndarray]]] = []

    def add(self, shape: Sequence[int], labels: Sequence[np.ndarray]) -> None:
        """Add an operand; missing leading dimensions are 1."""
        lead = self.rank - len(shape)
        shape = (1,) * lead + tuple(shape)
        arrays = [a.reshape((1,) * (self.rank - a.ndim) + a.shape) for a in labels]
        self.operands.append((shape, arrays))

    def unite(self) -> list[np.ndarray]:
        """The labels of what they make."""
        merged: list[np.ndarray] = []
        shape: tuple[int, ...] | None = None
        for new_shape, arrays in self.operands:
            if shape is None:
                shape, merged = new_shape, list(arrays)
                continue
            before = list(merged)
            met: set[int] = set()
            for ids in arrays:
                self._meet(ids, new_shape, merged, shape, before, met)
            for position, ids in enumerate(before):
                if position not in met and any(new_shape[d] > 1 for d in axes_of(ids)):
                    self.call.freeze(ids, "they meet a tensor without channels")
            shape = tuple(max(a, b) for a, b in zip(shape, new_shape, strict=True))
        return merged

    def _meet(
        self,
        ids: np.ndarray,
        new_shape: tuple[int, ...],
        merged: list[np.ndarray],
        shape: tuple[int, ...],
        before: list[np.ndarray],
        met: set[int],
    ) -> None:
        mine = set(axes_of(ids))
        found = False
        extra: list[np.ndarray] = []
        for position, other in enumerate(before):
            theirs = set(axes_of(other))
            if not mine & theirs:
                continue
            found = True
            met.add(position)
            if mine == theirs:
                self.call.ids.unite(ids, other)
            elif mine < theirs:
                self._within(ids, new_shape, other)
            elif theirs < mine:
                self._within(other, shape, ids)
                merged[position] = ids
            else:  # as in attention between channels: whole heads stay or go
                both = mine & theirs
                rows = self.call.ids.tie(ids, sorted(mine - both))
                self.call.ids.unite(rows, self.call.ids.tie(other, sorted(theirs - both)))
                extra.append(ids)
        if found:
            if len(extra) == sum(bool(mine & set(axes_of(other))) for other in before):
                merged.append(ids)
            return
        if any(shape[d] > 1 for d in mine):
            self.call.freeze(ids, "they meet a tensor without channels")
        merged.append(ids)

    def _within(self, small: np.ndarray, shape: tuple[int, ...], large: np.ndarray) -> None:
        """Channels along some of the dimensions of others, such as one scale for all heads."""
        extra = [d for d in axes_of(large) if small.shape[d] == 1]
        is_spread = any(shape[d] > 1 for d in extra)
        if is_spread or axes_of(large)[0] in axes_of(small):
            self.call.ids.unite(small, large)
        else:
            self.call.freeze(small, "they are shared by blocks of channels")
            self.call.ids.tie(large, axes_of(small))


def _extent(tensor: Tensor) -> tuple[int, ...]:
    """Shape of a tensor, with 1 where `expand` repeats one entry."""
    return tuple(
        1 if stride == 0 else size
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )


def _meet(
    call: Call, out_rank: int, *operands: tuple[Sequence[int], Sequence[np.ndarray]]
) -> list[np.ndarray]:
    met = _Met(call, out_rank)
    for shape, labels in operands:
        met.add(shape, labels)
    return met.unite()


def _reduce(call: Call, ids: np.ndarray, dims: Sequence[int], keep: bool) -> np.ndarray | None:
    """The identities after a reduction; None if no channels are left."""
    inside = [d for d in dims if ids.shape[d] > 1]
    if inside and len(inside) == len(axes_of(ids)):
        return None
    if inside:
        ids = call.ids.tie(ids, inside)
    return ids if keep else ids.reshape([s for d, s in enumerate(ids.shape) if d not in dims])


def _normal(dims: Any, rank: int) -> list[int]:
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        return list(range(rank))
    if isinstance(dims, int):
        dims = [dims]
    return [d % rank if rank else 0 for d in dims]


def _freeze_along(call: Call, labels: Labels, dims: Sequence[int], why: str) -> Labels:
    """Labels without those along some dimensions, which are frozen."""
    kept = []
    for ids in labels:
        if any(ids.shape[d] > 1 for d in dims):
            call.freeze(ids, why)
        else:
            kept.append(ids)
    return tuple(kept)


def _first(call: Call) -> Tensor:
    tensor: Tensor = call.tensors()[0]
    return tensor


# ----------------------------------------------------------------------------------- pointwise


def pointwise_rule(call: Call) -> None:
    """Sums, products, activations: what stands at one place is one channel."""
    inputs = call.tensors()
    outputs = call.out if isinstance(call.out, (list, tuple)) else [call.out]
    for out in outputs:
        if not isinstance(out, Tensor):
            continue
        merged = _meet(call, out.dim(), *((_extent(t), call.labels(t)) for t in inputs))
        call.put(out, tuple(merged))


for _name in (
    "where", "lerp", "addcmul", "addcdiv", "masked_fill", "clamp", "dropout", "native_dropout",
    "bernoulli", "bernoulli_", "_prelu_kernel", "prelu", "rrelu_with_noise",
    "clone", "detach", "_to_copy", "alias", "lift_fresh", "contiguous", "tril", "triu",
    "nan_to_num",
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "polar",
    "complex", "real", "imag", "view_as_real_copy", "_conj", "_conj_physical", "resolve_conj", "to",
    "type_as", "isfinite", "isnan", "isinf", "rms_norm_", "_softmax", "_log_softmax", "softmax",
    "log_softmax", "_safe_softmax", "hardswish", "erf", "silu", "mish", "gelu", "fill", "zero",
    "uniform", "normal", "exponential", "threshold", "logit", "copysign", "softplus", "celu",
):  # fmt: skip
    RULES[f"aten::{_name}"] = pointwise_rule


@rule("aten::fill_", "aten::zero_", "aten::uniform_", "aten::normal_", "aten::exponential_")
def _overwritten(call: Call) -> None:
    return


@rule("aten::copy_")
def _copied(call: Call) -> None:
    target, source = call["self"], call["src"]
    if call.labels(target):
        merged = _meet(
            call, target.dim(), (target.shape, call.labels(target)),
            (source.shape, call.labels(source)),
        )  # fmt: skip
        call.put(target, tuple(merged))
    elif target._is_view():
        for ids in call.labels(source):
            call.freeze(ids, "they are written into a part of a tensor")
    else:
        lead = target.dim() - source.dim()
        call.put(target, tuple(a.reshape((1,) * lead + a.shape) for a in call.labels(source)))


@rule("aten::cumsum", "aten::cumprod", "aten::logcumsumexp", "aten::cummax", "aten::cummin")
def _cumulative(call: Call) -> None:
    x = call["self"]
    labels = _freeze_along(
        call, call.labels(x), _normal(call["dim"], x.dim()), "they are summed in order"
    )
    for out in _outputs(call):
        call.put(out, labels)


def _outputs(call: Call) -> list[Tensor]:
    outs = call.out if isinstance(call.out, (list, tuple)) else [call.out]
    return [t for t in outs if isinstance(t, Tensor)]


# -------------------------------------------------------------------------------- contractions


def _contract(call: Call, spec: str, a: Tensor, b: Tensor) -> list[np.ndarray]:
    """Labels of a product of two tensors, summed over the letters that the result lacks.

    Args:
        call: The operation.
        spec: As in `torch.einsum`, such as "mk,kn->mn".
        a: First factor.
        b: Second factor.
    """
    return _contract_labels(
        call, spec, tuple(a.shape), call.labels(a), tuple(b.shape), call.labels(b)
    )


def _contract_labels(
    call: Call,
    spec: str,
    a_shape: Sequence[int],
    a_labels: Sequence[np.ndarray],
    b_shape: Sequence[int],
    b_labels: Sequence[np.ndarray],
) -> list[np.ndarray]:
    inputs, result = spec.split("->")
    left, right = inputs.split(",")
    letters = result + "".join(c for c in dict.fromkeys(left + right) if c not in result)
    operands = []
    for names, shape, labels in ((left, a_shape, a_labels), (right, b_shape, b_labels)):
        order = [names.index(c) for c in letters if c in names]

        def spread(values: Sequence[int], names: str = names) -> list[int]:
            known = dict(zip(names, values, strict=True))
            return [known.get(c, 1) for c in letters]

        arrays = [np.transpose(ids, order).reshape(spread(ids.shape)) for ids in labels]
        operands.append((spread(shape), arrays))
    merged = _meet(call, len(letters), *operands)
    summed = list(range(len(result), len(letters)))
    reduced = (_reduce(call, ids, summed, keep=False) for ids in merged)
    return [ids for ids in reduced if ids is not None]


def _plus(call: Call, out: Tensor, labels: Sequence[np.ndarray], bias: Tensor | None) -> None:
    if bias is not None:
        labels = _meet(call, out.dim(), (tuple(out.shape), labels), (bias.shape, call.labels(bias)))
    call.put(out, tuple(labels))


@rule("aten::mm", "aten::matmul")
def _mm(call: Call) -> None:
    spec = {(2, 2): "mk,kn->mn", (1, 2): "k,kn->n", (2, 1): "mk,k->m"}
    a, b = call.tensors()
    call.put(call.out, tuple(_contract(call, spec[a.dim(), b.dim()], a, b)))


@rule("aten::mv")
def _mv(call: Call) -> None:
    a, b = call.tensors()
    call.put(call.out, tuple(_contract(call, "mk,k->m", a, b)))


@rule("aten::dot", "aten::vdot")
def _dot(call: Call) -> None:
    a, b = call.tensors()
    _contract(call, "k,k->", a, b)


@rule("aten::bmm")
def _bmm(call: Call) -> None:
    a, b = call.tensors()
    call.put(call.out, tuple(_contract(call, "bmk,bkn->bmn", a, b)))


@rule("aten::addmm")
def _addmm(call: Call) -> None:
    labels = _contract(call, "mk,kn->mn", call["mat1"], call["mat2"])
    _plus(call, call.out, labels, call["self"])


@rule("aten::baddbmm")
def _baddbmm(call: Call) -> None:
    labels = _contract(call, "bmk,bkn->bmn", call["batch1"], call["batch2"])
    _plus(call, call.out, labels, call["self"])


@rule("aten::addmv")
def _addmv(call: Call) -> None:
    labels = _contract(call, "mk,k->m", call["mat"], call["vec"])
    _plus(call, call.out, labels, call["self"])


@rule("aten::linear")
def _linear(call: Call) -> None:
    x = call["input"]
    lead = "abcdefgh"[: x.dim() - 1]
    labels = _contract(call, f"{lead}k,nk->{lead}n", x, call["weight"])
    _plus(call, call.out, labels, call["bias"])


@rule(
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_fused_attention_overrideable",
    "aten::_scaled_dot_product_attention_math",
)
def _attention(call: Call) -> None:
    query, key, value = call["query"], call["key"], call["value"]
    rank = query.dim()
    lead = "abcdefgh"[: rank - 2]
    weights = _contract(call, f"{lead}qk,{lead}sk->{lead}qs", query, key)
    out = _outputs(call)[0]
    shape = (*query.shape[:-1], key.shape[-2])
    labels = _contract_labels(
        call, f"{lead}qs,{lead}sv->{lead}qv", shape, weights, value.shape, call.labels(value)
    )
    call.put(out, tuple(labels))


@rule("aten::convolution", "aten::_convolution", "aten::conv2d", "aten::conv3d", "aten::conv1d")
def _convolution(call: Call) -> None:
    x, weight, bias = call["input"], call["weight"], call["bias"]
    groups, transposed = call["groups"], bool(call["transposed"])
    wide = tuple(range(2, weight.dim()))
    what = "they are positions of a kernel"
    w_labels = _freeze_along(call, call.labels(weight), wide, what)
    if tuple(weight.shape[:2]) == (1, 1) and call.out.shape == x.shape:
        # One kernel slides along the channels (as in ECA): like a normalisation, it mixes
        # neighbours, however many there are.
        return call.put(call.out, call.labels(x))
    flat_w = [ids.reshape(ids.shape[:2]) for ids in w_labels]
    x_labels = _freeze_along(
        call, call.labels(x), (0, *range(2, x.dim())), "a convolution slides over them"
    )
    flat_x = [ids.reshape(-1) for ids in x_labels]
    if groups == 1:
        spec = "k,kn->n" if transposed else "k,nk->n"
        labels = _contract_labels(call, spec, x.shape[1:2], flat_x, tuple(weight.shape[:2]), flat_w)
    else:
        labels = _grouped(call, x.shape[1], flat_x, weight, flat_w, groups, transposed)
    ones = (1,) * (call.out.dim() - 2)
    shaped = [ids.reshape((1, len(ids), *ones)) for ids in labels]
    if bias is not None:
        b_labels = [ids.reshape((1, len(ids), *ones)) for ids in call.labels(bias)]
        shaped = _meet(
            call, call.out.dim(), (tuple(call.out.shape), shaped),
            ((1, bias.shape[0], *ones), b_labels),
        )  # fmt: skip
    return call.put(call.out, tuple(shaped))


def _grouped(
    call: Call,
    channels: int,
    x_labels: Sequence[np.ndarray],
    weight: Tensor,
    w_labels: Sequence[np.ndarray],
    groups: int,
    transposed: bool,
) -> list[np.ndarray]:
    """Output channels of a grouped convolution.

    Whole groups are kept or dropped with their inputs and outputs; where there are few groups, all
    of them keep the same channels instead.
    """
    per_in = channels // groups
    if transposed:  # the weight is (I, O / groups)
        rows = _contract_labels(
            call, "i,io->io", (channels,), x_labels, tuple(weight.shape[:2]), w_labels
        )
        inputs = [ids[:, 0] for ids in rows if ids.shape[0] > 1]
        outputs = [ids[0] for ids in rows if ids.shape[1] > 1 and ids.shape[0] == 1]
        if weight.shape[1] == 1:
            for ids in inputs:
                call.ids.tie(ids.reshape(groups, per_in), [1])
            return [ids.reshape(groups, per_in)[:, 0] for ids in inputs]
        for ids in (*inputs, *outputs):
            call.freeze(ids, "a transposed grouped convolution takes them")
        return []
    ins = [ids for ids in x_labels if len(ids) > 1]
    outs = [ids[:, 0] for ids in w_labels if ids.shape[0] > 1]
    fans = [ids[0] for ids in w_labels if ids.shape[0] == 1 and ids.shape[1] > 1]
    odd = [ids for ids in w_labels if ids.shape[0] > 1 and ids.shape[1] > 1]
    if not ins or odd or len(ins) > 1 or len(outs) > 1:
        for ids in (*ins, *outs, *fans, *odd):
            call.freeze(ids, "a grouped convolution on channels that are not elastic")
        return outs
    into = ins[0].reshape(groups, per_in)
    out = outs[0].reshape(groups, -1) if outs else None
    if call.is_inner(groups, per_in):
        if fans:
            call.ids.unite(into, fans[0][None])
        else:
            call.ids.tie(into, [0])
        if out is not None:
            call.ids.tie(out, [0])
        return outs
    for ids in fans:
        call.freeze(ids, "they are inside of a block of channels")
    blocks = call.ids.tie(into, [1])
    if out is None:
        call.freeze(into, "they meet a weight without channels")
        return []
    call.ids.unite(blocks, out)
    return outs


# -------------------------------------------------------------------------------- normalisation


def _per_channel(call: Call, x: Tensor, out: Tensor, *vectors: Tensor | None) -> None:
    """Vectors of one entry per channel of (N, C, ...)."""
    ones = (1,) * (x.dim() - 2)
    operands: list[tuple[Sequence[int], Sequence[np.ndarray]]] = [(x.shape, call.labels(x))]
    for vector in vectors:
        if vector is not None:
            shape = (1, vector.shape[0], *ones)
            operands.append((shape, [ids.reshape(shape) for ids in call.labels(vector)]))
    call.put(out, tuple(_meet(call, x.dim(), *operands)))


@rule(
    "aten::native_batch_norm",
    "aten::_native_batch_norm_legit",
    "aten::_native_batch_norm_legit_no_training",
    "aten::_batch_norm_with_update",
    "aten::_batch_norm_no_update",
    "aten::cudnn_batch_norm",
    "aten::batch_norm",
)
def _batch_norm(call: Call) -> None:
    vectors = call.tensors()[1:]
    _per_channel(call, call["input"], _outputs(call)[0], *vectors)


@rule("aten::native_group_norm")
def _group_norm(call: Call) -> None:
    x, groups = call["input"], call["group"]
    _per_channel(call, x, _outputs(call)[0], call["weight"], call["bias"])
    if groups > 1:
        for ids in call.labels(x):
            if ids.shape[1] > 1:
                rest = ids.reshape(groups, x.shape[1] // groups, -1)
                call.ids.tie(rest, [1])


@rule("aten::native_layer_norm", "aten::_fused_rms_norm", "aten::rms_norm")
def _layer_norm(call: Call) -> None:
    x = call["input"]
    vectors = call.tensors()[1:]
    merged = _meet(
        call, x.dim(), (x.shape, call.labels(x)), *((v.shape, call.labels(v)) for v in vectors)
    )
    call.put(_outputs(call)[0], tuple(merged))


@rule("aten::_weight_norm_interface", "aten::_weight_norm")
def _weight_norm(call: Call) -> None:
    v, g = call["v"], call["g"]
    out = _outputs(call)[0]
    call.put(
        out, tuple(_meet(call, out.dim(), (v.shape, call.labels(v)), (g.shape, call.labels(g))))
    )


# ---------------------------------------------------------------------------------- reductions


@rule(
    "aten::sum", "aten::mean", "aten::amax", "aten::amin", "aten::var", "aten::std", "aten::prod",
    "aten::var_mean", "aten::std_mean", "aten::max", "aten::min", "aten::logsumexp", "aten::norm",
    "aten::linalg_vector_norm", "aten::any", "aten::all", "aten::argmax", "aten::argmin",
    "aten::median", "aten::count_nonzero", "aten::aminmax",
)  # fmt: skip
def _reduction(call: Call) -> None:
    x = _first(call)
    if len(call.tensors()) > 1:  # max(a, b)
        return pointwise_rule(call)
    dims = _normal(_argument(call, "dim"), x.dim())
    keep = bool(_argument(call, "keepdim"))
    for out in _outputs(call):
        reduced = (
            _reduce(call, ids, dims, keep and out.dim() == x.dim()) for ids in call.labels(x)
        )
        call.put(out, tuple(ids for ids in reduced if ids is not None))
    return None


def _argument(call: Call, name: str) -> Any:
    try:
        return call[name]
    except KeyError:
        return None


@rule("aten::norm_except_dim")
def _norm_except_dim(call: Call) -> None:
    v = call["v"]
    dims = [d for d in range(v.dim()) if d != call["dim"]]
    reduced = (_reduce(call, ids, dims, True) for ids in call.labels(v))
    call.put(call.out, tuple(ids for ids in reduced if ids is not None))


@rule("aten::topk", "aten::sort", "aten::kthvalue")
def _sorted(call: Call) -> None:
    x = call["self"]
    labels = _freeze_along(
        call, call.labels(x), _normal(call["dim"], x.dim()), "they are sorted by value"
    )
    for out in _outputs(call):
        call.put(out, labels)


# --------------------------------------------------------------------------------------- views


def _map(call: Call, change: Callable[[np.ndarray], np.ndarray]) -> None:
    call.put(call.out, tuple(change(ids) for ids in call.labels(_first(call))))


def _cut(call: Call, labels: Labels, where: tuple[Any, ...]) -> Labels:
    """What a slice leaves; a channel that is taken alone stays, as it has a place of its own."""
    dim = len(where) - 1
    found = []
    for ids in labels:
        part = ids
        if ids.shape[dim] > 1:
            part = ids[where]
        elif not isinstance(where[-1], slice):
            part = ids.take(0, dim)
        if part.size == 1 and ids.size > 1:
            call.freeze(part, "they are taken one by one")
        found.append(part)
    return tuple(found)


@rule(
    "aten::view", "aten::_unsafe_view", "aten::reshape", "aten::_reshape_alias",
    "aten::flatten", "aten::unflatten", "aten::view_copy",
)  # fmt: skip
def _view(call: Call) -> None:
    x = _first(call)
    if call.out.shape == x.shape:  # a view as another dtype, or the same
        return call.put(call.out, call.labels(x))
    return _map(call, lambda ids: reshape_ids(ids, tuple(x.shape), tuple(call.out.shape)))


@rule("aten::t", "aten::numpy_T")
def _t(call: Call) -> None:
    _map(call, np.transpose)


@rule("aten::transpose", "aten::swapaxes")
def _transpose(call: Call) -> None:
    rank = _first(call).dim()
    _map(call, lambda ids: np.swapaxes(ids, call["dim0"] % rank, call["dim1"] % rank))


@rule("aten::permute")
def _permute(call: Call) -> None:
    rank = _first(call).dim()
    _map(call, lambda ids: np.transpose(ids, [d % rank for d in call["dims"]]))


@rule("aten::movedim")
def _movedim(call: Call) -> None:
    _map(call, lambda ids: np.moveaxis(ids, call["source"], call["destination"]))


@rule("aten::unsqueeze")
def _unsqueeze(call: Call) -> None:
    dim = call["dim"] % call.out.dim()
    _map(call, lambda ids: np.expand_dims(ids, dim))


@rule("aten::squeeze")
def _squeeze(call: Call) -> None:
    x = _first(call)
    dims = _normal(_argument(call, "dim"), x.dim())
    gone = [d for d in dims if x.shape[d] == 1]
    _map(call, lambda ids: ids.reshape([s for d, s in enumerate(ids.shape) if d not in gone]))


@rule("aten::expand", "aten::broadcast_to", "aten::expand_copy")
def _expand(call: Call) -> None:
    rank = call.out.dim()
    _map(call, lambda ids: ids.reshape((1,) * (rank - ids.ndim) + ids.shape))


@rule("aten::repeat", "aten::tile")
def _repeat(call: Call) -> None:
    repeats = list(call.out.shape)
    x = _first(call)
    lead = call.out.dim() - x.dim()
    sizes = (1,) * lead + tuple(x.shape)

    def change(ids: np.ndarray) -> np.ndarray:
        ids = ids.reshape((1,) * lead + ids.shape)
        times = [r // s if i > 1 else 1 for r, s, i in zip(repeats, sizes, ids.shape, strict=True)]
        return np.tile(ids, times)

    _map(call, change)


@rule("aten::repeat_interleave")
def _repeat_interleave(call: Call) -> None:
    x, repeats = _first(call), call["repeats"]
    dim = _argument(call, "dim")
    if dim is None or not isinstance(repeats, int):
        for ids in call.labels(x):
            call.freeze(ids, "they are repeated by an index")
        return
    dim %= x.dim()
    _map(call, lambda ids: np.repeat(ids, repeats, dim) if ids.shape[dim] > 1 else ids)


@rule("aten::slice", "aten::slice_copy")
def _slice(call: Call) -> None:
    x = _first(call)
    dim = call["dim"] % x.dim()
    where = slice(call["start"], call["end"], call["step"])
    call.put(call.out, _cut(call, call.labels(x), (slice(None),) * dim + (where,)))


@rule("aten::narrow")
def _narrow(call: Call) -> None:
    x = _first(call)
    dim, start = call["dim"] % x.dim(), call["start"]
    where = slice(start, start + call["length"])
    call.put(call.out, _cut(call, call.labels(x), (slice(None),) * dim + (where,)))


@rule("aten::select", "aten::select_copy")
def _select(call: Call) -> None:
    x = _first(call)
    dim = call["dim"] % x.dim()
    call.put(call.out, _cut(call, call.labels(x), (slice(None),) * dim + (call["index"],)))


@rule("aten::unbind")
def _unbind(call: Call) -> None:
    x = _first(call)
    dim = call["dim"] % x.dim()
    for number, out in enumerate(call.out):
        call.put(out, _cut(call, call.labels(x), (slice(None),) * dim + (number,)))


@rule("aten::split", "aten::split_with_sizes", "aten::chunk", "aten::tensor_split",
      "aten::split_with_sizes_copy", "aten::split_copy")  # fmt: skip
def _split(call: Call) -> None:
    x = _first(call)
    dim = call["dim"] % x.dim()
    start = 0
    for out in call.out:
        stop = start + out.shape[dim]
        call.put(out, _cut(call, call.labels(x), (slice(None),) * dim + (slice(start, stop),)))
        start = stop


@rule("aten::glu")
def _glu(call: Call) -> None:
    x = _first(call)
    dim = call["dim"] % x.dim()

    def change(ids: np.ndarray) -> np.ndarray:
        if ids.shape[dim] == 1:
            return ids
        a, b = np.split(ids, 2, dim)
        call.ids.unite(a, b)
        return a

    _map(call, change)


@rule("aten::flip", "aten::roll")
def _flip(call: Call) -> None:
    x = _first(call)
    dims = _normal(call["dims"], x.dim())

    def change(ids: np.ndarray) -> np.ndarray:
        if not any(ids.shape[d] > 1 for d in dims):
            return ids
        if call.name == "aten::flip":
            return np.flip(ids, tuple(dims)).copy()
        return np.roll(ids, tuple(call["shifts"]), tuple(dims))

    _map(call, change)


@rule("aten::diagonal", "aten::as_strided", "aten::im2col", "aten::col2im", "aten::unfold",
      "aten::pixel_shuffle", "aten::pixel_unshuffle", "aten::channel_shuffle",
      "aten::native_channel_shuffle")  # fmt: skip
def _rearranged(call: Call) -> None:
    x = _first(call)
    labels = call.labels(x)
    kept: list[np.ndarray] = []
    for ids in labels:
        changed = _rearrange(call, x, ids)
        if changed is not None:
            kept.append(changed)
    call.put(call.out, tuple(kept))


def _rearrange(call: Call, x: Tensor, ids: np.ndarray) -> np.ndarray | None:
    shape = tuple(call.out.shape)
    if call.name.rstrip("_") == "aten::as_strided" and shape == tuple(x.shape):
        return ids
    only = axes_of(ids)
    if call.name == "aten::unfold":
        dim = call["dimension"] % x.dim()
        if ids.shape[dim] == 1:
            return ids[..., None]
    elif call.name == "aten::im2col" and only == (1,) and x.dim() == 4:
        return np.repeat(ids.reshape(1, -1, 1), shape[1] // x.shape[1], 1)
    elif (call.name == "aten::col2im" and only == (1,) and x.dim() == 3) or (
        call.name == "aten::pixel_shuffle" and x.dim() == 4 and only == (1,)
    ):
        per = x.shape[1] // shape[1]
        tied = call.ids.tie(ids.reshape(shape[1], per), [1])
        return tied.reshape(1, shape[1], 1, 1)
    elif call.name == "aten::pixel_unshuffle" and x.dim() == 4 and only == (1,):
        return np.repeat(ids, shape[1] // x.shape[1], 1)
    elif call.name in ("aten::channel_shuffle", "aten::native_channel_shuffle") and only == (1,):
        groups = call["groups"]
        return ids.reshape(groups, -1).T.reshape(ids.shape)
    call.freeze(ids, f"{call.name.removeprefix('aten::')} rearranges them")
    return None


@rule("aten::view_as_real", "aten::view_as_complex")
def _complex(call: Call) -> None:
    if call.name == "aten::view_as_real":
        return _map(call, lambda ids: ids[..., None])
    x = _first(call)
    labels = _freeze_along(
        call, call.labels(x), [x.dim() - 1], "they are pairs of a complex number"
    )
    return call.put(call.out, tuple(ids[..., 0] for ids in labels))


# ------------------------------------------------------------------------ joining and choosing


@rule("aten::cat", "aten::stack", "aten::concat")
def _cat(call: Call) -> None:
    tensors = [t for t in call["tensors"] if not (t.dim() == 1 and t.numel() == 0)]
    dim = call["dim"] % call.out.dim()
    if call.name == "aten::stack":
        pieces = [
            ((*t.shape[:dim], 1, *t.shape[dim:]), [np.expand_dims(i, dim) for i in call.labels(t)])
            for t in tensors
        ]
    else:
        pieces = [(tuple(t.shape), list(call.labels(t))) for t in tensors]
    along = any(ids.shape[dim] > 1 for _, labels in pieces for ids in labels)
    across = [
        (tuple(1 if d == dim else s for d, s in enumerate(shape)),
         [ids for ids in labels if ids.shape[dim] == 1])
        for shape, labels in pieces
    ]  # fmt: skip
    merged = _meet(call, call.out.dim(), *across)
    if along:
        merged.append(_joined(call, pieces, dim))
    call.put(call.out, tuple(merged))


def _joined(call: Call, pieces: list[tuple[tuple[int, ...], list[np.ndarray]]], dim: int) -> Any:
    """One array along the joined dimension; channels of pieces that have none are fixed."""
    arrays: list[np.ndarray] = []
    rank = len(pieces[0][0])
    for shape, labels in pieces:
        mine = [ids for ids in labels if ids.shape[dim] > 1]
        if not mine:
            ids = call.ids.new_fixed(shape[dim], "they come from no layer")
            arrays.append(ids.reshape([shape[dim] if d == dim else 1 for d in range(rank)]))
            continue
        for other in mine[1:]:
            call.freeze(other, "they are joined along two dimensions")
        arrays.append(mine[0])
    full = [max(a.shape[d] for a in arrays) for d in range(rank)]
    spread = [
        np.broadcast_to(a, [a.shape[d] if d == dim else full[d] for d in range(rank)])
        for a in arrays
    ]
    return np.concatenate(spread, dim)


@rule("aten::constant_pad_nd", "aten::pad", "aten::reflection_pad1d", "aten::reflection_pad2d",
      "aten::replication_pad1d", "aten::replication_pad2d", "aten::replication_pad3d",
      "aten::reflection_pad3d")  # fmt: skip
def _pad(call: Call) -> None:
    x = _first(call)
    pads = list(_argument(call, "pad") or _argument(call, "padding") or [])
    rank = x.dim()

    def change(ids: np.ndarray) -> np.ndarray:
        for number in range(len(pads) // 2):
            dim = rank - 1 - number
            before, after = pads[2 * number], pads[2 * number + 1]
            if ids.shape[dim] == 1 or (before == 0 and after == 0):
                continue
            if before < 0 or after < 0:
                call.freeze(ids, "they are cropped")
                where = slice(max(0, -before), ids.shape[dim] - max(0, -after))
                ids = ids[(slice(None),) * dim + (where,)]
            ends = []
            for width in (max(before, 0), max(after, 0)):
                shape = [width if d == dim else s for d, s in enumerate(ids.shape)]
                count = int(np.prod(shape))
                # Beside the rows of heads, each row's padding goes with it.
                alone = len(axes_of(ids)) == 1
                fresh = call.ids.new_fixed(count, "they are padding") if alone else None
                ends.append((call.ids.new(count) if fresh is None else fresh).reshape(shape))
            ids = np.concatenate([ends[0], ids, ends[1]], dim)
        return ids

    _map(call, change)


@rule("aten::index_select")
def _index_select(call: Call) -> None:
    x = call["self"]
    labels = _freeze_along(
        call, call.labels(x), [call["dim"] % x.dim()], "they are chosen by an index"
    )
    call.put(call.out, labels)


@rule("aten::gather")
def _gather(call: Call) -> None:
    x, index = call["self"], call["index"]
    dim = call["dim"] % x.dim()
    labels = _freeze_along(call, call.labels(x), [dim], "they are chosen by an index")
    merged = _meet(
        call, x.dim(),
        (tuple(1 if d == dim else s for d, s in enumerate(x.shape)), labels),
        (tuple(1 if d == dim else s for d, s in enumerate(index.shape)), call.labels(index)),
    )  # fmt: skip
    call.put(call.out, tuple(merged))


@rule("aten::embedding")
def _embedding(call: Call) -> None:
    labels = _freeze_along(call, call.labels(call["weight"]), [0], "they are rows of a table")
    lead = call.out.dim() - 2
    call.put(call.out, tuple(ids.reshape((1,) * lead + ids.shape) for ids in labels))


@rule("aten::index", "aten::_unsafe_index")
def _index(call: Call) -> None:
    x, indices = call["self"], list(call["indices"])
    places = [d for d, index in enumerate(indices) if index is not None]
    labels = call.labels(x)
    if places != list(range(places[0], places[-1] + 1)) or any(
        indices[d].dtype == torch.bool for d in places
    ):
        for ids in labels:
            call.freeze(ids, "they are chosen by an index")
        return
    labels = _freeze_along(call, labels, places, "they are chosen by an index")
    count = call.out.dim() - (x.dim() - len(places))

    def change(ids: np.ndarray) -> np.ndarray:
        shape = (*ids.shape[: places[0]], *(1,) * count, *ids.shape[places[-1] + 1 :])
        return ids.reshape(shape)

    call.put(call.out, tuple(change(ids) for ids in labels))


# ------------------------------------------------------------------------------- over positions


def _positions(call: Call, count: int, x: Tensor | None = None) -> None:
    x = _first(call) if x is None else x
    dims = range(x.dim() - count, x.dim())
    labels = _freeze_along(call, call.labels(x), dims, "they are treated as positions of an image")
    for out in _outputs(call):
        if out.dim() == x.dim():
            call.put(out, labels)


for _name, _count in {
    "avg_pool1d": 1, "avg_pool2d": 2, "avg_pool3d": 3, "max_pool2d_with_indices": 2,
    "max_pool3d_with_indices": 3, "_adaptive_avg_pool2d": 2, "_adaptive_avg_pool3d": 3,
    "adaptive_max_pool2d": 2, "adaptive_max_pool3d": 3, "max_pool2d": 2, "adaptive_avg_pool2d": 2,
    "adaptive_avg_pool1d": 1, "upsample_nearest1d": 1, "upsample_nearest2d": 2, "max_pool3d": 3,
    "upsample_nearest3d": 3, "_upsample_nearest_exact2d": 2, "_upsample_nearest_exact1d": 1,
    "upsample_bilinear2d": 2, "upsample_bicubic2d": 2, "upsample_linear1d": 1,
    "upsample_trilinear3d": 3, "_upsample_bilinear2d_aa": 2, "_upsample_bicubic2d_aa": 2,
    "fractional_max_pool2d": 2, "max_pool1d_with_indices": 1, "max_pool1d": 1,
    "adaptive_max_pool1d": 1,
}.items():  # fmt: skip
    RULES[f"aten::{_name}"] = lambda call, count=_count: _positions(call, count)  # type: ignore[misc]


@rule("aten::grid_sampler_2d", "aten::grid_sampler", "torchvision::roi_align",
      "torchvision::roi_pool", "torchvision::ps_roi_align")  # fmt: skip
def _sampled(call: Call) -> None:
    others = call.tensors()[1:]
    for other in others:
        for ids in call.labels(other):
            call.freeze(ids, "they are places to sample at")
    _positions(call, 2, _first(call))


@rule("aten::_fft_r2c", "aten::_fft_c2r", "aten::_fft_c2c")
def _fourier(call: Call) -> None:
    x = _first(call)
    labels = _freeze_along(
        call, call.labels(x), _normal(call["dim"], x.dim()), "a Fourier transform mixes them"
    )
    call.put(call.out, labels)


@rule("torchvision::deform_conv2d")
def _deformable(call: Call) -> None:
    x, weight = call["input"], call["weight"]
    for name in ("offset", "mask"):
        for ids in call.labels(call[name]):
            call.freeze(ids, "they are offsets of a convolution")
    w_labels = _freeze_along(call, call.labels(weight), (2, 3), "they are positions of a kernel")
    x_labels = _freeze_along(call, call.labels(x), (0, 2, 3), "a convolution slides over them")
    flat_w = [ids.reshape(ids.shape[:2]) for ids in w_labels]
    flat_x = [ids.reshape(-1) for ids in x_labels]
    if call["groups"] == 1 and call["offset_groups"] == 1:
        labels = _contract_labels(
            call, "k,nk->n", (x.shape[1],), flat_x, tuple(weight.shape[:2]), flat_w
        )
    else:
        for ids in (*flat_x, *flat_w):
            call.freeze(ids, "a grouped deformable convolution takes them")
        labels = [ids.reshape(-1) for ids in flat_w if len(ids) == ids.size]
    shaped = [ids.reshape(1, -1, 1, 1) for ids in labels]
    bias = call["bias"]
    b_labels = [ids.reshape(1, -1, 1, 1) for ids in call.labels(bias)]
    call.put(
        call.out,
        tuple(
            _meet(call, 4, (tuple(call.out.shape), shaped), ((1, bias.shape[0], 1, 1), b_labels))
        ),
    )


_NO_CHANNELS = {
    "aten::empty", "aten::zeros", "aten::ones", "aten::full", "aten::arange", "aten::linspace",
    "aten::new_zeros", "aten::new_ones", "aten::new_empty", "aten::new_full", "aten::eye",
    "aten::rand", "aten::randn", "aten::randperm", "aten::scalar_tensor", "aten::empty_strided",
    "aten::new_empty_strided", "aten::randint", "aten::_local_scalar_dense", "aten::item",
    "aten::nonzero", "aten::is_nonzero", "aten::equal", "aten::set_", "torchvision::nms",
    "aten::_assert_async", "aten::_assert_scalar", "aten::sym_size", "aten::bincount",
    "aten::_assert_tensor_metadata",
}  # fmt: skip


def _nothing(_: Call) -> None:
    return


for _name in _NO_CHANNELS:
    RULES[_name] = _nothing
del _name, _count
