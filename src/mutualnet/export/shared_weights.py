"""One file of weights that the graphs of all configurations read slices of."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx_ir as ir

_PAGE, _SMALL = 4096, 64
"""Alignment of tensors of at least a page, so that they can be mapped, and of smaller ones."""


class SharedWeights:
    """Collects tensors, each once, and says where they will lie in the file.

    Args:
        file_name: Of the weights, as graphs beside it name it.
    """

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name
        self._content: list[tuple[int, np.ndarray]] = []
        self._size = self._num_written = 0
        self._places: dict[str, int] = {}

    def named(self, name: str, values: np.ndarray) -> ir.ExternalTensor:
        """A tensor that has a name; the same one when it comes again."""
        return self._tensor(name, name, values)

    def unnamed(self, values: np.ndarray) -> ir.ExternalTensor:
        """A tensor that is known by its content alone."""
        digest = hashlib.sha256(values.tobytes())
        digest.update(f"{values.dtype}{values.shape}".encode())
        return self._tensor(digest.hexdigest(), "constant", values)

    def _tensor(self, key: str, name: str, values: np.ndarray) -> ir.ExternalTensor:
        values = np.ascontiguousarray(values)
        if key not in self._places:
            step = _PAGE if values.nbytes >= _PAGE else _SMALL
            start = -(-self._size // step) * step
            self._places[key] = start
            self._content.append((start, values))
            self._size = start + values.nbytes
        return ir.ExternalTensor(
            self.file_name,
            self._places[key],
            values.nbytes,
            ir.DataType.from_numpy(values.dtype),
            shape=ir.Shape(values.shape),
            name=name,
        )

    def write(self, folder: Path) -> None:
        """Write what the file in a folder lacks yet.

        Tensors are never moved, so that what was written stays.
        """
        path = folder / self.file_name
        path.touch()
        with path.open("r+b") as out:
            for start, values in self._content[self._num_written :]:
                out.seek(start)
                out.write(values.tobytes())
        self._num_written = len(self._content)
