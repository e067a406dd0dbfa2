"""How channels pass through matrix products, convolutions and attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mutualnet.supernet.op_calls import (
    Call,
    freeze_along,
    outputs_of,
    rule,
)
from mutualnet.supernet.op_meeting import meet, reduce_ids


def contract(call: Call, spec: str, a: Tensor, b: Tensor) -> list[np.ndarray]:
    """Labels of a product of two tensors, summed over the letters that the result lacks.

    Args:
        call: The operation.
        spec: As in `torch.einsum`, such as "mk,kn->mn".
        a: First factor.
        b: Second factor.
    """
    return contract_labels(
        call, spec, tuple(a.shape), call.labels(a), tuple(b.shape), call.labels(b)
    )


def contract_labels(
    call: Call,
    spec: str,
    a_shape: Sequence[int],
    a_labels: Sequence[np.ndarray],
    b_shape: Sequence[int],
    b_labels: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """The same as `contract`, of shapes and labels."""
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
    merged = meet(call, len(letters), *operands)
    summed = list(range(len(result), len(letters)))
    reduced = (reduce_ids(call, ids, summed, keep=False) for ids in merged)
    return [ids for ids in reduced if ids is not None]


def _plus(call: Call, out: Tensor, labels: Sequence[np.ndarray], bias: Tensor | None) -> None:
    if bias is not None:
        labels = meet(call, out.dim(), (tuple(out.shape), labels), (bias.shape, call.labels(bias)))
    call.put(out, tuple(labels))


@rule("aten::mm")
def _mm(call: Call) -> None:
    a, b = call.tensors()
    call.put(call.out, tuple(contract(call, "mk,kn->mn", a, b)))


@rule("aten::mv")
def _mv(call: Call) -> None:
    a, b = call.tensors()
    call.put(call.out, tuple(contract(call, "mk,k->m", a, b)))


@rule("aten::dot", "aten::vdot")
def _dot(call: Call) -> None:
    a, b = call.tensors()
    contract(call, "k,k->", a, b)


@rule("aten::bmm")
def _bmm(call: Call) -> None:
    a, b = call.tensors()
    call.put(call.out, tuple(contract(call, "bmk,bkn->bmn", a, b)))


@rule("aten::addmm")
def _addmm(call: Call) -> None:
    labels = contract(call, "mk,kn->mn", call["mat1"], call["mat2"])
    _plus(call, call.out, labels, call["self"])


@rule("aten::baddbmm")
def _baddbmm(call: Call) -> None:
    labels = contract(call, "bmk,bkn->bmn", call["batch1"], call["batch2"])
    _plus(call, call.out, labels, call["self"])


@rule("aten::addmv")
def _addmv(call: Call) -> None:
    labels = contract(call, "mk,k->m", call["mat"], call["vec"])
    _plus(call, call.out, labels, call["self"])


@rule("aten::linear")
def _linear(call: Call) -> None:
    x = call["input"]
    lead = "abcdefgh"[: x.dim() - 1]
    labels = contract(call, f"{lead}k,nk->{lead}n", x, call["weight"])
    _plus(call, call.out, labels, call["bias"])


@rule(
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_fused_attention_overrideable",
)
def _attention(call: Call) -> None:
    query, key, value = call["query"], call["key"], call["value"]
    rank = query.dim()
    lead = "abcdefgh"[: rank - 2]
    weights = contract(call, f"{lead}qk,{lead}sk->{lead}qs", query, key)
    out = outputs_of(call)[0]
    shape = (*query.shape[:-1], key.shape[-2])
    labels = contract_labels(
        call, f"{lead}qs,{lead}sv->{lead}qv", shape, weights, value.shape, call.labels(value)
    )
    call.put(out, tuple(labels))


@rule("aten::convolution", "aten::_convolution")
def _convolution(call: Call) -> None:
    x, weight, bias = call["input"], call["weight"], call["bias"]
    groups, transposed = call["groups"], bool(call["transposed"])
    wide = tuple(range(2, weight.dim()))
    what = "they are positions of a kernel"
    w_labels = freeze_along(call, call.labels(weight), wide, what)
    if tuple(weight.shape[:2]) == (1, 1) and call.out.shape == x.shape:
        # One kernel slides along the channels (as in ECA): like a normalisation, it mixes
        # neighbours, however many there are.
        call.ids.ordered.extend(call.labels(x))
        return call.put(call.out, call.labels(x))
    flat_w = [ids.reshape(ids.shape[:2]) for ids in w_labels]
    x_labels = freeze_along(
        call, call.labels(x), (0, *range(2, x.dim())), "a convolution slides over them"
    )
    flat_x = [ids.reshape(-1) for ids in x_labels]
    if groups == 1:
        spec = "k,kn->n" if transposed else "k,nk->n"
        labels = contract_labels(call, spec, x.shape[1:2], flat_x, tuple(weight.shape[:2]), flat_w)
    else:
        labels = _grouped(call, x.shape[1], flat_x, weight, flat_w, groups, transposed)
    ones = (1,) * (call.out.dim() - 2)
    shaped = [ids.reshape((1, len(ids), *ones)) for ids in labels]
    if bias is not None:
        b_labels = [ids.reshape((1, len(ids), *ones)) for ids in call.labels(bias)]
        shaped = meet(
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
        rows = contract_labels(
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


@rule("torchvision::deform_conv2d")
def _deformable(call: Call) -> None:
    x, weight = call["input"], call["weight"]
    for name in ("offset", "mask"):
        for ids in call.labels(call[name]):
            call.freeze(ids, "they are offsets of a convolution")
    w_labels = freeze_along(call, call.labels(weight), (2, 3), "they are positions of a kernel")
    x_labels = freeze_along(call, call.labels(x), (0, 2, 3), "a convolution slides over them")
    flat_w = [ids.reshape(ids.shape[:2]) for ids in w_labels]
    flat_x = [ids.reshape(-1) for ids in x_labels]
    if call["groups"] == 1 and call["offset_groups"] == 1:
        labels = contract_labels(
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
        tuple(meet(call, 4, (tuple(call.out.shape), shaped), ((1, bias.shape[0], 1, 1), b_labels))),
    )
