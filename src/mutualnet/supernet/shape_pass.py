"""Forward passes that run for their shapes: what takes long is left out, as far as that goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from mutualnet.supernet.op_recurrent import OneOperation

T = TypeVar("T")
_COSTLY = {
    "aten::convolution",
    "aten::mm",
    "aten::bmm",
    "aten::addmm",
    "aten::baddbmm",
    "torchvision::roi_align",
}


def run_for_shapes(run: Callable[[], T], is_good: Callable[[T], bool] = lambda _: True) -> T:
    """Do something that makes forward passes for their shapes.

    Networks run on the meta device where they can. One that needs values, such as a detector, whose
    values decide how many boxes there are, gets noise from products. Where that makes it fail, or
    what comes out is not good, products are computed.

    Args:
        run: What to do; perhaps twice.
        is_good: Whether its result will do.
    """
    with shape_pass() as noise:
        try:
            result = run()
            if not noise.was_made or is_good(result):
                return result
        except Exception:  # whatever a stranger's model raises
            if not noise.was_made:
                raise
    with OneOperation():
        return run()


@contextmanager
def shape_pass() -> Iterator[_Noise]:
    """Products of values make noise inside, and recurrent layers are one operation."""
    with OneOperation(), _Noise() as noise:
        yield noise


class _Noise(TorchDispatchMode):
    """Products of tensors with values make noise of mean zero and variance one, plus the bias."""

    def __init__(self) -> None:
        super().__init__()
        self.was_made = False
        self._noise = torch.randn(2**16, generator=torch.Generator().manual_seed(0))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        is_costly = name in _COSTLY and args[0].is_floating_point()
        if not is_costly or args[0].device.type == "meta":
            return func(*args, **(kwargs or {}))
        self.was_made = True
        on_meta = tree_map(
            lambda a: a.to("meta") if isinstance(a, Tensor) else a, (args, kwargs or {})
        )
        shape = func(*on_meta[0], **on_meta[1])
        made = self._fill(torch.empty_like(shape, device=args[0].device))
        if name == "aten::convolution" and args[2] is not None:
            made += args[2].reshape(-1, *[1] * (made.dim() - 2))
        elif name == "aten::addmm":
            made += args[0]
        return made

    def _fill(self, tensor: Tensor) -> Tensor:
        """Copying is several times faster than drawing."""
        size, whole = tensor.numel(), tensor.numel() // len(self._noise)
        flat = tensor.as_strided((size,), (1,))
        rows = flat[: whole * len(self._noise)].view(whole, len(self._noise))
        rows.copy_(self._noise.expand_as(rows))
        flat[rows.numel() :] = self._noise[: size - rows.numel()]
        return tensor
