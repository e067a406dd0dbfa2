"""How channels pass through what works on the positions of an image."""

from __future__ import annotations

from torch import Tensor

from mutualnet.supernet.op_calls import (
    RULES,
    Call,
    dims_of,
    first_input,
    freeze_along,
    outputs_of,
    rule,
)
from mutualnet.supernet.op_meeting import meet


def _positions(call: Call, count: int, x: Tensor | None = None) -> None:
    x = first_input(call) if x is None else x
    dims = range(x.dim() - count, x.dim())
    labels = freeze_along(call, call.labels(x), dims, "they are treated as positions of an image")
    for out in outputs_of(call):
        if out.dim() == x.dim():
            call.put(out, labels)


for _name, _count in {
    "avg_pool1d": 1, "avg_pool2d": 2, "avg_pool3d": 3, "max_pool2d_with_indices": 2,
    "max_pool3d_with_indices": 3, "_adaptive_avg_pool2d": 2, "_adaptive_avg_pool3d": 3,
    "adaptive_max_pool2d": 2, "adaptive_max_pool3d": 3, "adaptive_avg_pool2d": 2,
    "adaptive_avg_pool1d": 1, "upsample_nearest1d": 1, "upsample_nearest2d": 2,
    "upsample_nearest3d": 3, "_upsample_nearest_exact2d": 2, "_upsample_nearest_exact1d": 1,
    "upsample_bilinear2d": 2, "upsample_bicubic2d": 2, "upsample_linear1d": 1,
    "upsample_trilinear3d": 3, "_upsample_bilinear2d_aa": 2, "_upsample_bicubic2d_aa": 2,
    "fractional_max_pool2d": 2,

}.items():  # fmt: skip
    RULES[f"aten::{_name}"] = lambda call, count=_count: _positions(call, count)  # type: ignore[misc]


@rule("aten::grid_sampler_2d", "torchvision::roi_align",
      "torchvision::roi_pool", "torchvision::ps_roi_align")  # fmt: skip
def _sampled(call: Call) -> None:
    others = call.tensors()[1:]
    for other in others:
        for ids in call.labels(other):
            call.freeze(ids, "they are places to sample at")
    _positions(call, 2, first_input(call))


@rule("aten::max_unpool2d", "aten::max_unpool3d")
def _unpooled(call: Call) -> None:
    x, indices = call["self"], call["indices"]
    spatial = range(x.dim() - (2 if call.name == "aten::max_unpool2d" else 3), x.dim())
    merged = meet(call, x.dim(), (x.shape, call.labels(x)), (indices.shape, call.labels(indices)))
    why = "they are treated as positions of an image"
    call.put(call.out, freeze_along(call, tuple(merged), spatial, why))


@rule("aten::_fft_r2c", "aten::_fft_c2r", "aten::_fft_c2c")
def _fourier(call: Call) -> None:
    x = first_input(call)
    labels = freeze_along(
        call, call.labels(x), dims_of(call["dim"], x.dim()), "a Fourier transform mixes them"
    )
    call.put(call.out, labels)
