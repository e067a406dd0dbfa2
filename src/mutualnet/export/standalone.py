"""One configuration by itself, in a format that others read."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from mutualnet.export.artifact_writer import ArtifactInfo
from mutualnet.export.graphs import InputScaling, constant, quiet, trace_graph
from mutualnet.export.verification import (
    check_difference,
    largest_difference,
    outputs_of,
    outputs_of_graph,
)
from mutualnet.messages import reason_of
from mutualnet.runtime import INPUT
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
"""Ending of the file, by the format."""


def write_standalone(
    out: Path,
    kind: str,
    supernet: Supernet,
    subnet: Subnet,
    info: ArtifactInfo,
    images: Tensor,
) -> float:
    """Export one configuration, after it has given there what PyTorch gives.

    It takes normalised images or clips of its own resolution and frames. What is done to a file
    before, and the names of the classes, go with it as metadata (`mutualnet`).

    Args:
        out: File to write, with the format's ending; OpenVINO's weights lie beside it.
        kind: `onnx`, `openvino`, or `torch` for a program of `torch.export`.
        supernet: With statistics for the configuration; on the CPU.
        subnet: Which one.
        info: Task, classes, preprocessing.
        images: Normalised real images float32 (N, C, H, W), or clips (N, C, T, H, W), at the top
            resolution, to verify with.

    Returns:
        The largest difference of its outputs from PyTorch's.

    Raises:
        ValueError: If the format is unknown, the ending is another, the preprocessing makes other
            images, the network has not one output for each class, it cannot be exported, or it
            gives other outputs there.
        MissingStatisticsError: If the configuration has no fresh BN statistics.
    """
    check_format(out, kind)
    info.check(images)
    module = supernet.extract(subnet).eval().float()
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    scaled = info.scaled(images, subnet)
    about = json.dumps(
        {
            "task": info.task,
            "class_names": list(info.class_names),
            "preprocessing": info.preprocessing.to_values(),
            "resolution": subnet.resolution,
            "subnet": subnet.to_dict(),
            "provenance": dict(info.provenance),
        }
    )
    with replaced_when_whole(out) as path:
        found = _WRITERS[kind](module, scaled, about, path)
        difference = largest_difference(found, outputs_of(module, scaled, len(info.class_names)))
        check_difference(difference, f"the {kind} export of {subnet}")
    return difference


def check_format(out: Path, kind: str) -> None:
    """Refuse a format that is unknown, or a file with another ending.

    Raises:
        ValueError: If it is one of these.
    """
    if kind not in SUFFIXES:
        raise ValueError(f"format must be one of {', '.join(SUFFIXES)}, got {kind!r}")
    if out.suffix != SUFFIXES[kind]:
        raise ValueError(f"a file of format {kind} must end in {SUFFIXES[kind]}, got {out}")


@contextmanager
def replaced_when_whole(out: Path) -> Iterator[Path]:
    """A place to write a file, and OpenVINO's weights beside it; moved to its own after the block.

    After an error in the block nothing is left, and an older file stays.

    Args:
        out: The file.
    """
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
        path = Path(name) / out.name
        yield path
        for file in sorted(path.parent.iterdir()):
            if file.suffix in (out.suffix, ".bin"):
                os.replace(file, out.parent / file.name)  # noqa: PTH105 - also over an old one


def to_openvino(graph: Path, about: str, path: Path) -> Any:
    """Convert a graph, which goes, and compile the result for exact numbers on the CPU.

    Args:
        graph: ONNX.
        about: Metadata.
        path: Of the model to write.
    """
    import openvino

    model = openvino.convert_model(graph)
    model.set_rt_info(about, "mutualnet")
    openvino.save_model(model, path, compress_to_fp16=False)
    graph.unlink()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(path, "CPU", exact)


def _write_onnx(module: nn.Module, images: Tensor, about: str, path: Path) -> np.ndarray:
    shape = tuple(images.shape[1:])
    template = trace_graph(module, shape)
    model = template.fill(InputScaling(shape=shape, resolution=shape[-1]))
    tensors = module.state_dict()
    inputs = {value.name: value for value in model.graph.inputs}
    for name in template.weights:
        value = inputs[name]
        model.graph.inputs.remove(value)
        values = tensors[name].detach().cpu().float().numpy()
        value.replace_all_uses_with(constant(model, f"weights.{name}", values))
    model.metadata_props["mutualnet"] = about
    ir.save(model, path)
    return outputs_of_graph(path, images.numpy(), template.batch_size)


def _write_openvino(module: nn.Module, images: Tensor, about: str, path: Path) -> np.ndarray:
    graph = path.with_suffix(".onnx")
    _write_onnx(module, images, about, graph)
    compiled = to_openvino(graph, about, path)
    dynamic = compiled.input(0).partial_shape[0].is_dynamic
    batches = [images] if dynamic else images.split(1)
    found: list[Any] = [compiled({INPUT: batch.numpy()})[compiled.output(0)] for batch in batches]
    return np.concatenate(found)


def _write_torch(module: nn.Module, images: Tensor, about: str, path: Path) -> np.ndarray:
    dims = ({0: torch.export.Dim("batch")},)
    with quiet():
        try:
            # Of one image alone it would take the number for a fixed one.
            example = torch.cat([images[:1]] * 2)
            program = torch.export.export(module, (example,), dynamic_shapes=dims)
        except Exception as error:  # it passes on whatever the network's code raises
            reason = reason_of(error)
            raise ValueError(
                f"torch.export cannot follow {type(module).__name__}: {reason}"
            ) from None
        torch.export.save(program, path, extra_files={"mutualnet.json": about})
    with torch.inference_mode():
        found: np.ndarray = program.module()(images).float().numpy()
    return found


_WRITERS: dict[str, Callable[[nn.Module, Tensor, str, Path], np.ndarray]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torch": _write_torch,
}
