"""How channels pass through views, and through what joins, pads and chooses them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mutualnet.supernet.channel_ids import Labels, axes_of, reshape_ids
from mutualnet.supernet.op_calls import (
    Call,
    argument,
    dims_of,
    first_input,
    freeze_along,
    map_labels,
    rule,
)
from mutualnet.supernet.op_meeting import meet


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
    "aten::view", "aten::_unsafe_view", "aten::_reshape_alias",
    "aten::view_copy",
)  # fmt: skip
def _view(call: Call) -> None:
    x = first_input(call)
    if call.out.shape == x.shape:  # a view as another dtype, or the same
        return call.put(call.out, call.labels(x))
    return map_labels(call, lambda ids: reshape_ids(ids, tuple(x.shape), tuple(call.out.shape)))


@rule("aten::t")
def _t(call: Call) -> None:
    map_labels(call, np.transpose)


@rule("aten::transpose")
def _transpose(call: Call) -> None:
    rank = first_input(call).dim()
    map_labels(call, lambda ids: np.swapaxes(ids, call["dim0"] % rank, call["dim1"] % rank))


@rule("aten::permute")
def _permute(call: Call) -> None:
    rank = first_input(call).dim()
    map_labels(call, lambda ids: np.transpose(ids, [d % rank for d in call["dims"]]))


@rule("aten::unsqueeze")
def _unsqueeze(call: Call) -> None:
    dim = call["dim"] % call.out.dim()
    map_labels(call, lambda ids: np.expand_dims(ids, dim))


@rule("aten::squeeze")
def _squeeze(call: Call) -> None:
    x = first_input(call)
    dims = dims_of(argument(call, "dim"), x.dim())
    gone = [d for d in dims if x.shape[d] == 1]
    map_labels(call, lambda ids: ids.reshape([s for d, s in enumerate(ids.shape) if d not in gone]))


@rule("aten::expand", "aten::expand_copy")
def _expand(call: Call) -> None:
    rank = call.out.dim()
    map_labels(call, lambda ids: ids.reshape((1,) * (rank - ids.ndim) + ids.shape))


@rule("aten::repeat")
def _repeat(call: Call) -> None:
    repeats = list(call.out.shape)
    x = first_input(call)
    lead = call.out.dim() - x.dim()
    sizes = (1,) * lead + tuple(x.shape)

    def change(ids: np.ndarray) -> np.ndarray:
        ids = ids.reshape((1,) * lead + ids.shape)
        times = [r // s if i > 1 else 1 for r, s, i in zip(repeats, sizes, ids.shape, strict=True)]
        return np.tile(ids, times)

    map_labels(call, change)


@rule("aten::repeat_interleave")
def _repeat_interleave(call: Call) -> None:
    x, repeats = first_input(call), call["repeats"]
    dim = argument(call, "dim")
    if dim is None or not isinstance(repeats, int):
        for ids in call.labels(x):
            call.freeze(ids, "they are repeated by an index")
        return
    dim %= x.dim()
    map_labels(call, lambda ids: np.repeat(ids, repeats, dim) if ids.shape[dim] > 1 else ids)


@rule("aten::slice", "aten::slice_copy")
def _slice(call: Call) -> None:
    x = first_input(call)
    dim = call["dim"] % x.dim()
    where = slice(call["start"], call["end"], call["step"])
    call.put(call.out, _cut(call, call.labels(x), (slice(None),) * dim + (where,)))


@rule("aten::select", "aten::select_copy")
def _select(call: Call) -> None:
    x = first_input(call)
    dim = call["dim"] % x.dim()
    call.put(call.out, _cut(call, call.labels(x), (slice(None),) * dim + (call["index"],)))


@rule("aten::unbind")
def _unbind(call: Call) -> None:
    x = first_input(call)
    dim = call["dim"] % x.dim()
    for number, out in enumerate(call.out):
        call.put(out, _cut(call, call.labels(x), (slice(None),) * dim + (number,)))


@rule("aten::split", "aten::split_with_sizes",
      "aten::split_with_sizes_copy", "aten::split_copy")  # fmt: skip
def _split(call: Call) -> None:
    x = first_input(call)
    dim = call["dim"] % x.dim()
    start = 0
    for out in call.out:
        stop = start + out.shape[dim]
        call.put(out, _cut(call, call.labels(x), (slice(None),) * dim + (slice(start, stop),)))
        start = stop


@rule("aten::glu")
def _glu(call: Call) -> None:
    x = first_input(call)
    dim = call["dim"] % x.dim()

    def change(ids: np.ndarray) -> np.ndarray:
        if ids.shape[dim] == 1:
            return ids
        a, b = np.split(ids, 2, dim)
        call.ids.unite(a, b)
        return a

    map_labels(call, change)


@rule("aten::flip", "aten::roll")
def _flip(call: Call) -> None:
    x = first_input(call)
    dims = dims_of(call["dims"], x.dim())

    def change(ids: np.ndarray) -> np.ndarray:
        if not any(ids.shape[d] > 1 for d in dims):
            return ids
        if call.name == "aten::flip":
            return np.flip(ids, tuple(dims)).copy()
        return np.roll(ids, tuple(call["shifts"]), tuple(dims))

    map_labels(call, change)


@rule("aten::diagonal", "aten::as_strided", "aten::im2col", "aten::col2im", "aten::unfold",
      "aten::pixel_shuffle", "aten::pixel_unshuffle", "aten::channel_shuffle")  # fmt: skip
def _rearranged(call: Call) -> None:
    x = first_input(call)
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
    elif call.name == "aten::channel_shuffle" and only == (1,):
        groups = call["groups"]
        return ids.reshape(groups, -1).T.reshape(ids.shape)
    call.freeze(ids, f"{call.name.removeprefix('aten::')} rearranges them")
    return None


@rule("aten::view_as_real", "aten::view_as_complex")
def _complex(call: Call) -> None:
    if call.name == "aten::view_as_real":
        return map_labels(call, lambda ids: ids[..., None])
    x = first_input(call)
    labels = freeze_along(call, call.labels(x), [x.dim() - 1], "they are pairs of a complex number")
    return call.put(call.out, tuple(ids[..., 0] for ids in labels))


@rule("aten::cat", "aten::stack")
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
    merged = meet(call, call.out.dim(), *across)
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


@rule("aten::constant_pad_nd", "aten::reflection_pad1d", "aten::reflection_pad2d",
      "aten::replication_pad1d", "aten::replication_pad2d", "aten::replication_pad3d",
      "aten::reflection_pad3d")  # fmt: skip
def _pad(call: Call) -> None:
    x = first_input(call)
    pads = list(argument(call, "pad") or argument(call, "padding") or [])
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

    map_labels(call, change)


@rule("aten::index_select")
def _index_select(call: Call) -> None:
    x = call["self"]
    labels = freeze_along(
        call, call.labels(x), [call["dim"] % x.dim()], "they are chosen by an index"
    )
    call.put(call.out, labels)


@rule("aten::gather")
def _gather(call: Call) -> None:
    x, index = call["self"], call["index"]
    dim = call["dim"] % x.dim()
    labels = freeze_along(call, call.labels(x), [dim], "they are chosen by an index")
    merged = meet(
        call, x.dim(),
        (tuple(1 if d == dim else s for d, s in enumerate(x.shape)), labels),
        (tuple(1 if d == dim else s for d, s in enumerate(index.shape)), call.labels(index)),
    )  # fmt: skip
    call.put(call.out, tuple(merged))


@rule("aten::embedding")
def _embedding(call: Call) -> None:
    labels = freeze_along(call, call.labels(call["weight"]), [0], "they are rows of a table")
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
    labels = freeze_along(call, labels, places, "they are chosen by an index")
    count = call.out.dim() - (x.dim() - len(places))

    def change(ids: np.ndarray) -> np.ndarray:
        shape = (*ids.shape[: places[0]], *(1,) * count, *ids.shape[places[-1] + 1 :])
        return ids.reshape(shape)

    call.put(call.out, tuple(change(ids) for ids in labels))


@rule("aten::index_put", "aten::index_put_")
def _index_put(call: Call) -> None:
    """Values written to chosen rows, such as features of boxes that several maps have."""
    target, values, indices = call["self"], call["values"], list(call["indices"])
    places = [d for d, index in enumerate(indices) if index is not None]
    count = max(indices[d].dim() for d in places)
    is_run = places == list(range(places[0], places[-1] + 1))
    is_mask = any(indices[d].dtype == torch.bool for d in places)
    along = [ids for ids in call.labels(target) if not any(ids.shape[d] > 1 for d in places)]
    is_part = call.name.endswith("_") and target._is_view()
    if not is_run or is_mask or is_part or not (along or call.is_constant(target)):
        for ids in (*call.labels(target), *call.labels(values)):
            call.freeze(ids, "they are written into a part of a tensor")
        return
    kept = freeze_along(call, call.labels(target), places, "they are written in part")
    rank = target.dim() - len(places) + count
    spread = [ids.reshape((1,) * (rank - ids.ndim) + ids.shape) for ids in call.labels(values)]
    chosen = range(places[0], places[0] + count)
    written = [
        ids.reshape((*ids.shape[: places[0]], *(1,) * len(places), *ids.shape[places[0] + count :]))
        for ids in freeze_along(call, tuple(spread), chosen, "they are written to chosen places")
    ]
    shape = tuple(1 if d in places else size for d, size in enumerate(target.shape))
    merged = meet(call, target.dim(), (shape, kept), (shape, written)) if kept else written
    call.put(call.out, tuple(merged))
