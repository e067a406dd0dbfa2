"""Give a graph its weights: slices of the tensors that all graphs share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir
from torch import Tensor

from mutualnet.export.graphs import constant
from mutualnet.export.shared_weights import SharedWeights
from mutualnet.supernet import WeightSlice

_LARGE = 512
"""Bytes from which on a constant goes into the shared file, where equal ones lie once."""


def attach_weights(
    model: ir.Model,
    names: Iterable[str],
    slices: Mapping[str, WeightSlice],
    statistics: Mapping[str, Tensor],
    weights: SharedWeights,
) -> None:
    """Put every weight in its place, as a slice of the full tensor in the shared file.

    ONNX Runtime computes the slices once, when it loads the graph. Statistics are stored in the
    graph, as no other has the same.

    Args:
        model: Changed in place.
        names: Its inputs that stand for weights and statistics.
        slices: Where the weights lie.
        statistics: The other values, by name.
        weights: Takes the full tensors.
    """
    inputs = {value.name: value for value in model.graph.inputs}
    nodes: list[ir.Node] = []
    for constant_value in list(model.graph.initializers.values()):
        tensor = constant_value.const_value
        if tensor is not None and tensor.nbytes >= _LARGE:
            constant_value.const_value = weights.unnamed(tensor.numpy())
    for name in names:
        value = inputs[name]
        model.graph.inputs.remove(value)
        if not value.uses():
            continue
        if name in slices:
            value.replace_all_uses_with(_sliced(model, name, slices[name], weights, nodes))
        else:
            values = statistics[name].detach().cpu().float().numpy()
            value.replace_all_uses_with(constant(model, f"statistics.{name}", values))
    model.graph.insert_before(model.graph[0], nodes)


def _sliced(
    model: ir.Model,
    name: str,
    where: WeightSlice,
    weights: SharedWeights,
    nodes: list[ir.Node],
) -> ir.Value:
    full = where.full.detach().cpu().float().numpy()
    source = f"full.{where.source}"
    current = model.graph.initializers.get(source)
    if current is None:
        current = ir.Value(
            name=source,
            shape=ir.Shape(full.shape),
            type=ir.TensorType(ir.DataType.FLOAT),
            const_value=weights.named(where.source, full),
        )
        model.graph.register_initializer(current)
    kept = {
        dim: index
        for dim, index in where.dims.items()
        if not (isinstance(index, slice) and index.stop == full.shape[dim])
    }
    stops = {dim: index.stop for dim, index in kept.items() if isinstance(index, slice)}
    if stops:
        axes = sorted(stops)
        ends = [stops[axis] for axis in axes]
        current = _node(
            nodes,
            f"{name}.leading",
            "Slice",
            [current, *(_whole(model, values) for values in ([0] * len(axes), ends, axes))],
        )
    for dim, index in kept.items():
        if isinstance(index, np.ndarray):
            positions = index.astype(np.int32)
            inputs = [current, constant(model, _name_of(positions), positions)]
            current = _node(nodes, f"{name}.gathered{dim}", "Gather", inputs, axis=dim)
    return current


def _whole(model: ir.Model, values: list[int]) -> ir.Value:
    """Whole numbers, stored once a graph."""
    return constant(model, "whole." + "_".join(map(str, values)), np.array(values, np.int64))


def _name_of(positions: np.ndarray) -> str:
    return f"positions.{hashlib.sha256(positions.tobytes()).hexdigest()[:16]}"


def _node(
    nodes: list[ir.Node], name: str, kind: str, inputs: list[ir.Value], **attributes: int
) -> ir.Value:
    node = ir.node(kind, inputs, attributes, outputs=[ir.Value(name=name)])
    nodes.append(node)
    return node.outputs[0]
