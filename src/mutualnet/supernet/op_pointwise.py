"""How channels pass through sums, activations, normalisations and reductions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mutualnet.supernet.op_calls import (
    RULES,
    Call,
    argument,
    dims_of,
    first_input,
    freeze_along,
    outputs_of,
    rule,
)
from mutualnet.supernet.op_meeting import extent, meet, reduce_ids


def pointwise_rule(call: Call) -> None:
    """Sums, products, activations: what stands at one place is one channel."""
    inputs = call.tensors()
    outputs = call.out if isinstance(call.out, (list, tuple)) else [call.out]
    for out in outputs:
        if not isinstance(out, Tensor):
            continue
        merged = meet(call, out.dim(), *((extent(t), call.labels(t)) for t in inputs))
        call.put(out, tuple(merged))


for _name in (
    "where", "lerp", "addcmul", "addcdiv", "masked_fill", "clamp", "native_dropout",
    "bernoulli", "_prelu_kernel", "rrelu_with_noise",
    "clone", "detach", "_to_copy", "alias", "lift_fresh", "tril", "triu",
    "nan_to_num",
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "polar",
    "complex", "view_as_real_copy", "_conj", "_conj_physical",
    "isnan", "isinf", "_softmax", "_log_softmax", "softmax",
    "log_softmax", "_safe_softmax", "hardswish", "erf", "silu", "mish", "gelu", "fill", "zero",
    "uniform", "normal", "exponential", "threshold", "logit", "copysign", "softplus", "celu",
    "leaky_relu",
):  # fmt: skip
    RULES[f"aten::{_name}"] = pointwise_rule


@rule("aten::fill_", "aten::zero_", "aten::uniform_", "aten::normal_", "aten::exponential_")
def _overwritten(call: Call) -> None:
    return


@rule("aten::copy_")
def _copied(call: Call) -> None:
    target, source = call["self"], call["src"]
    if call.labels(target):
        merged = meet(
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
    labels = freeze_along(
        call, call.labels(x), dims_of(call["dim"], x.dim()), "they are summed in order"
    )
    for out in outputs_of(call):
        call.put(out, labels)


def _per_channel(call: Call, x: Tensor, out: Tensor, *vectors: Tensor | None) -> None:
    """Vectors of one entry per channel of (N, C, ...)."""
    ones = (1,) * (x.dim() - 2)
    operands: list[tuple[Sequence[int], Sequence[np.ndarray]]] = [(x.shape, call.labels(x))]
    for vector in vectors:
        if vector is not None:
            shape = (1, vector.shape[0], *ones)
            operands.append((shape, [ids.reshape(shape) for ids in call.labels(vector)]))
    call.put(out, tuple(meet(call, x.dim(), *operands)))


@rule(
    "aten::native_batch_norm",
    "aten::_native_batch_norm_legit",
    "aten::_native_batch_norm_legit_no_training",
    "aten::_batch_norm_with_update",
    "aten::_batch_norm_no_update",
    "aten::cudnn_batch_norm",
)
def _batch_norm(call: Call) -> None:
    vectors = call.tensors()[1:]
    _per_channel(call, call["input"], outputs_of(call)[0], *vectors)


@rule("aten::native_group_norm")
def _group_norm(call: Call) -> None:
    x, groups = call["input"], call["group"]
    _per_channel(call, x, outputs_of(call)[0], call["weight"], call["bias"])
    if groups > 1:
        for ids in call.labels(x):
            if ids.shape[1] > 1:
                rest = ids.reshape(groups, x.shape[1] // groups, -1)
                call.ids.tie(rest, [1])


@rule("aten::native_layer_norm", "aten::_fused_rms_norm", "aten::rms_norm")
def _layer_norm(call: Call) -> None:
    x = call["input"]
    vectors = call.tensors()[1:]
    merged = meet(
        call, x.dim(), (x.shape, call.labels(x)), *((v.shape, call.labels(v)) for v in vectors)
    )
    call.put(outputs_of(call)[0], tuple(merged))


@rule("aten::_weight_norm_interface")
def _weight_norm(call: Call) -> None:
    v, g = call["v"], call["g"]
    out = outputs_of(call)[0]
    call.put(
        out, tuple(meet(call, out.dim(), (v.shape, call.labels(v)), (g.shape, call.labels(g))))
    )


@rule(
    "aten::sum", "aten::mean", "aten::amax", "aten::amin", "aten::var", "aten::std", "aten::prod",
    "aten::var_mean", "aten::std_mean", "aten::max", "aten::min", "aten::logsumexp", "aten::norm",
    "aten::linalg_vector_norm", "aten::any", "aten::all", "aten::argmax", "aten::argmin",
    "aten::median", "aten::count_nonzero", "aten::aminmax",
)  # fmt: skip
def _reduction(call: Call) -> None:
    x = first_input(call)
    if len(call.tensors()) > 1:  # max(a, b)
        return pointwise_rule(call)
    dims = dims_of(argument(call, "dim"), x.dim())
    keep = bool(argument(call, "keepdim"))
    for out in outputs_of(call):
        reduced = (
            reduce_ids(call, ids, dims, keep and out.dim() == x.dim()) for ids in call.labels(x)
        )
        call.put(out, tuple(ids for ids in reduced if ids is not None))
    return None


@rule("aten::topk", "aten::sort", "aten::kthvalue")
def _sorted(call: Call) -> None:
    x = call["self"]
    labels = freeze_along(
        call, call.labels(x), dims_of(call["dim"], x.dim()), "they are sorted by value"
    )
    for out in outputs_of(call):
        call.put(out, labels)
