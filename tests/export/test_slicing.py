"""A graph's weights are slices of tensors that other graphs read too."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from mutualnet.export.shared_weights import SharedWeights
from mutualnet.export.slicing import attach_weights
from mutualnet.supernet import WeightSlice

FULL = nn.Parameter(torch.arange(6 * 5, dtype=torch.float32).reshape(6, 5))


def _graph(shape: tuple[int, ...]) -> ir.Model:
    """Images times a weight, plus a statistic; both are open."""
    inputs = [
        ir.Value(name=name, shape=ir.Shape(size), type=ir.TensorType(ir.DataType.FLOAT))
        for name, size in (("x", shape), ("weight", shape), ("mean", shape))
    ]
    product = ir.node("Mul", inputs[:2], outputs=[ir.Value(name="product")])
    total = ir.node("Add", [product.outputs[0], inputs[2]], outputs=[ir.Value(name="y")])
    total.outputs[0].shape, total.outputs[0].type = ir.Shape(shape), inputs[0].type
    graph = ir.Graph(
        inputs, [total.outputs[0]], nodes=[product, total], opset_imports={"": 20}, name="g"
    )
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(
    ("dims", "kinds"),
    [
        ({}, []),
        ({0: slice(0, 6)}, []),  # all of it is no slice
        ({0: slice(0, 3), 1: slice(0, 2)}, ["Slice"]),
        ({1: np.array([0, 3, 4])}, ["Gather"]),
        ({0: slice(0, 2), 1: np.array([1, 4])}, ["Slice", "Gather"]),
    ],
)
def test_a_weight_is_the_part_of_the_full_tensor(tmp_path, dims, kinds):
    expected = FULL.detach().numpy()
    for dim, index in dims.items():
        expected = expected[index] if dim == 0 else expected[:, index]
    model, weights = _graph(expected.shape), SharedWeights("weights.bin")
    mean = torch.ones(expected.shape)
    slices = {"weight": WeightSlice(source="layer.weight", full=FULL, dims=dims)}
    attach_weights(model, ["weight", "mean"], slices, {"mean": mean}, weights)
    weights.write(tmp_path)
    ir.save(model, tmp_path / "g.onnx")
    assert [node.op_type for node in model.graph] == [*kinds, "Mul", "Add"]
    assert [value.name for value in model.graph.inputs] == ["x"]
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx")
    (found,) = session.run(None, {"x": np.full(expected.shape, 2, np.float32)})
    np.testing.assert_array_equal(found, 2 * expected + 1)


def test_two_graphs_share_a_tensor(tmp_path):
    weights = SharedWeights("weights.bin")
    for rows in (2, 4):
        slices = {"weight": WeightSlice(source="w", full=FULL, dims={0: slice(0, rows)})}
        statistics = {"mean": torch.zeros(rows, 5)}
        attach_weights(_graph((rows, 5)), ["weight", "mean"], slices, statistics, weights)
    weights.write(tmp_path)
    assert (tmp_path / "weights.bin").stat().st_size == 6 * 5 * 4
