"""The elastic part of a larger network by itself, such as the backbone of a detector."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mutualnet.export.graphs import OPSET, quiet
from mutualnet.export.standalone import check_format, replaced_when_whole, to_openvino
from mutualnet.export.verification import check_difference, largest_difference
from mutualnet.messages import first_line, reason_of
from mutualnet.runtime import INPUT
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet

_Writer = Callable[[nn.Module, Sequence[Tensor], list[str], str, Path], list[list[np.ndarray]]]
_MULTIPLE, _LEAST = 32, 64
"""Sides of the images are multiples of the first, as detectors pad them, and at least the second:
where a map has one pixel, code that asks for its size goes another way."""
_TRACED = (2, 96, 160)
"""Images, height and width of what is traced; the sizes stay open."""


class FlatOutputs(nn.Module):
    """A part of a network with its outputs in a tuple.

    Args:
        part: Gives a tensor, or several in mappings, tuples and lists.
    """

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, C, H, W) to the part's tensors, in their order."""
        return tuple(tree_leaves(self.part(images)))


def write_backbone(
    out: Path,
    kind: str,
    supernet: Supernet,
    subnet: Subnet,
    images: Sequence[Tensor],
    provenance: Mapping[str, Any],
) -> float:
    """Export the elastic part in one configuration, after it has given there what PyTorch gives.

    It takes normalised images, any number, whose sides are multiples of 32 from 64 on, and gives
    every tensor that the part gives. The names of these, of a mapping the keys, and the
    configuration go with it as metadata (`mutualnet`).

    Args:
        out: File to write, with the format's ending; OpenVINO's weights lie beside it.
        kind: As for `write_standalone`.
        supernet: With an elastic part, and statistics for the configuration; on the CPU.
        subnet: Which one.
        images: Normalised real images (C, H, W) as the configuration sees them, at least one, to
            verify with. They are padded here.
        provenance: Plain values, for the reader.

    Returns:
        The largest difference of its outputs from PyTorch's.

    Raises:
        ValueError: If the format is unknown, the ending is another, the part cannot be exported, or
            it gives other outputs there.
        MissingStatisticsError: If the configuration has no fresh BN statistics.
    """
    check_format(out, kind)
    part = supernet.extract(subnet).eval().float().get_submodule(supernet.elastic_part)
    part.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    batches = [_padded(image.float())[None] for image in images]
    # Another shape than the one that is traced must do too.
    batches.append(batches[0].transpose(2, 3).contiguous().repeat(2, 1, 1, 1))
    module = FlatOutputs(part)
    with torch.inference_mode():
        expected = [[value.numpy() for value in module(batch)] for batch in batches]
        names = _names(part(batches[0]))
    about = json.dumps(
        {
            "part": supernet.elastic_part,
            "outputs": names,
            "resolution": subnet.resolution,
            "subnet": subnet.to_dict(),
            "provenance": dict(provenance),
        }
    )
    with replaced_when_whole(out) as path:
        found = _WRITERS[kind](module, batches, names, about, path)
        difference = max(
            largest_difference(mine, theirs)
            for pair in zip(found, expected, strict=True)
            for mine, theirs in zip(*pair, strict=True)
        )
        check_difference(difference, f"the {kind} export of {supernet.elastic_part} {subnet}")
    return difference


def _padded(image: Tensor) -> Tensor:
    """An image with zeros at its right and lower edges, to sides that can be taken."""
    more = [max(_LEAST, side + -side % _MULTIPLE) - side for side in image.shape[-2:]]
    return nn.functional.pad(image, (0, more[1], 0, more[0]))


def _example(channels: int) -> Tensor:
    number, height, width = _TRACED
    return torch.zeros(number, channels, height, width)


def _names(outputs: Any) -> list[str]:
    """A name for each tensor: its key in a mapping, with its number there if it has several."""
    if not isinstance(outputs, Mapping):
        return [f"map_{number}" for number in range(len(tree_leaves(outputs)))]
    names = []
    for key, value in outputs.items():
        count = len(tree_leaves(value))
        names += [f"map_{key}"] if count == 1 else [f"map_{key}_{n}" for n in range(count)]
    return names


def _dynamic() -> tuple[dict[int, Any], ...]:
    return (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),)


def _write_onnx(
    module: nn.Module, batches: Sequence[Tensor], names: list[str], about: str, path: Path
) -> list[list[np.ndarray]]:
    import onnxruntime

    with quiet():
        try:
            program = torch.onnx.export(
                module,
                (_example(batches[0].shape[1]),),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                dynamic_shapes=_dynamic(),
                input_names=[INPUT],
                output_names=names,
            )
        except Exception as error:  # the exporter passes on whatever the network's code raises
            reason = reason_of(error.__cause__ or error)
            raise ValueError(f"PyTorch cannot export it to ONNX: {reason}") from None
        assert program is not None
        program.save(str(path), external_data=False)
    model = onnx.load(path)
    model.metadata_props.add(key="mutualnet", value=about)
    onnx.save(model, path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        return [session.run(names, {INPUT: batch.numpy()}) for batch in batches]
    except Exception as error:  # ONNX Runtime has a class for each of its codes
        raise ValueError(f"{path.name} does not run in ONNX Runtime: {first_line(error)}") from None


def _write_openvino(
    module: nn.Module, batches: Sequence[Tensor], names: list[str], about: str, path: Path
) -> list[list[np.ndarray]]:
    graph = path.with_suffix(".onnx")
    _write_onnx(module, batches, names, about, graph)
    compiled = to_openvino(graph, about, path)
    found = []
    for batch in batches:
        outputs = compiled({INPUT: batch.numpy()})
        found.append([outputs[compiled.output(name)].copy() for name in names])
    return found


def _write_torch(
    module: nn.Module, batches: Sequence[Tensor], names: list[str], about: str, path: Path
) -> list[list[np.ndarray]]:
    with quiet():
        try:
            example = _example(batches[0].shape[1])
            program = torch.export.export(module, (example,), dynamic_shapes=_dynamic())
        except Exception as error:  # it passes on whatever the network's code raises
            raise ValueError(f"torch.export cannot follow it: {reason_of(error)}") from None
        torch.export.save(program, path, extra_files={"mutualnet.json": about})
    with torch.inference_mode():
        return [[value.numpy() for value in program.module()(batch)] for batch in batches]


_WRITERS: dict[str, _Writer] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torch": _write_torch,
}
