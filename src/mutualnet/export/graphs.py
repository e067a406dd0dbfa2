"""The ONNX graph of a plain network whose weights are still open."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript.optimizer
import torch
from torch import nn

from mutualnet.messages import reason_of
from mutualnet.runtime import INPUT, OUTPUT
from mutualnet.supernet import tracked_norms

OPSET = 20
"""Version of ONNX's operators; what PyTorch's exporter writes without conversion."""
_CHATTY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


@dataclass(frozen=True, kw_only=True)
class GraphTemplate:
    """A graph from images to outputs whose weights, statistics and input size are still open."""

    content: onnx.ModelProto
    weights: tuple[str, ...]
    """Inputs that stand for the network's parameters and for the statistics of its norms."""
    batch_size: int | None
    """Images that it takes at once; None for any number."""

    def fill(self, scaling: InputScaling) -> ir.Model:
        """A copy that takes images of a size and shows the network another.

        Args:
            scaling: The two sizes.
        """
        model = ir.serde.deserialize_model(self.content)
        _set_images(model, scaling)
        return model


@dataclass(frozen=True, kw_only=True)
class InputScaling:
    """What a graph takes of a sample, and what the network in it sees of that."""

    shape: tuple[int, ...]
    """(C, H, W) of the images that the graph takes, or (C, T, H, W) of its clips."""
    resolution: int
    """Side of the images that the network sees, in pixels."""
    frames: tuple[int, ...] | None = None
    """Indices of the frames that it sees; None for all, and for images."""

    @property
    def is_needed(self) -> bool:
        """Whether the network sees anything else than the graph takes."""
        return self.frames is not None or self.shape[-1] != self.resolution


def trace_graph(module: nn.Module, shape: Sequence[int]) -> GraphTemplate:
    """Trace a network to ONNX.

    Parameters and BN statistics stay inputs, so that nothing is computed from their values.

    Args:
        module: In eval mode, in float32 on the CPU; one tensor in, one out.
        shape: (C, H, W) of an image that the network sees, or (C, T, H, W) of a clip.

    Raises:
        ValueError: If PyTorch's exporter cannot follow the network.
    """
    reason = ""
    for batch_size in (None, 1):
        example = torch.zeros(batch_size or 2, *shape)
        try:
            with quiet():
                program = torch.onnx.export(
                    module,
                    (example,),
                    dynamo=True,
                    optimize=False,
                    verbose=False,
                    opset_version=OPSET,
                    dynamic_shapes=[{0: torch.export.Dim("batch")}] if batch_size is None else None,
                    input_names=[INPUT],
                    output_names=[OUTPUT],
                )
        except Exception as error:  # the exporter passes on whatever the network's code raises
            reason = reason_of(error.__cause__ or error)
            continue
        assert program is not None
        model = program.model
        if batch_size is None and not _takes_any_batch(model):
            reason = f"its code takes {len(example)} images at once and no other number"
            continue
        weights = _open_weights(model, _tensors(module))
        with quiet():
            onnxscript.optimizer.optimize(model)
        _check_signature(model, weights)
        _loosen_reshapes(model)
        _strip(model)
        content = ir.serde.serialize_model(model)
        return GraphTemplate(content=content, weights=weights, batch_size=batch_size)
    raise ValueError(f"PyTorch cannot export {type(module).__name__} to ONNX: {reason}")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's notes to itself: errors are raised, and outputs verified later."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _takes_any_batch(model: ir.Model) -> bool:
    """Whether the number of images stayed open; a loop over a batch fixes it without a word."""
    images = next(value for value in model.graph.inputs if value.name == INPUT)
    return images.shape is not None and not isinstance(images.shape[0], int)


def _tensors(module: nn.Module) -> list[str]:
    """Names of parameters and of statistics, which differ between equal graphs."""
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    for path, _ in tracked_norms(module):
        names += [f"{path}.running_mean", f"{path}.running_var"]
    return names


def _open_weights(model: ir.Model, names: Iterable[str]) -> tuple[str, ...]:
    """Turn tensors into inputs without values."""
    found = []
    for name in names:
        value = model.graph.initializers.pop(name, None)
        if value is None:
            continue  # the network does not use it
        value.const_value = None
        model.graph.inputs.append(value)
        found.append(name)
    return tuple(found)


def _check_signature(model: ir.Model, weights: Collection[str]) -> None:
    images = [value for value in model.graph.inputs if value.name not in weights]
    if len(images) != 1 or len(model.graph.outputs) != 1:
        raise ValueError(
            "a network to export must map one tensor of images to one tensor, got "
            f"{len(images)} inputs and {len(model.graph.outputs)} outputs. Auxiliary outputs must "
            "be switched off."
        )


def _loosen_reshapes(model: ir.Model) -> None:
    """Let reshapes to (N, C) take any number of channels, so that one graph serves all widths.

    Those that put images and positions into one dimension stay.
    """
    for node in model.graph:
        sides = node.inputs[1] if node.op_type == "Reshape" else None
        if sides is None or not _keeps_images(node):
            continue
        shape = ir.convenience.get_const_tensor(sides)
        if shape is not None and shape.shape == (2,) and shape.numpy()[0] == -1:
            node.attributes.pop("allowzero", None)
            node.replace_input_with(1, constant(model, "flat", np.array([0, -1], np.int64)))


def _keeps_images(node: ir.Node) -> bool:
    """Whether the first dimension of a node's output is that of its input, as far as is known."""
    before = node.inputs[0].shape if node.inputs[0] is not None else None
    after = node.outputs[0].shape
    return not before or not after or before[0] == after[0]


def _set_images(model: ir.Model, scaling: InputScaling) -> None:
    """Let the graph take images of another size, by the rule that every task scales by."""
    (image,) = (value for value in model.graph.inputs if value.name == INPUT)
    assert image.shape is not None
    shape = ir.Shape([image.shape[0], *scaling.shape])
    if not scaling.is_needed:
        image.shape = shape
        return
    outer = ir.Value(name=INPUT, shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    image.name = "full_images"
    nodes = _scaling_nodes(model, outer, scaling)
    image.replace_all_uses_with(nodes[-1].outputs[0])
    model.graph.inputs[list(model.graph.inputs).index(image)] = outer
    model.graph.insert_before(model.graph[0], nodes)


def _scaling_nodes(model: ir.Model, images: ir.Value, scaling: InputScaling) -> list[ir.Node]:
    """Take the frames, then resize them; at least one of the two."""
    nodes, kind = [], images.type
    if scaling.frames is not None:
        chosen = constant(model, "chosen_frames", np.array(scaling.frames, np.int64))
        clips = [ir.Value(name="fewer_frames", type=kind)]
        nodes.append(ir.node("Gather", [images, chosen], {"axis": 2}, outputs=clips))
        images = clips[0]
    if scaling.shape[-1] != scaling.resolution:
        side = scaling.resolution
        sizes = constant(model, "resized_sides", np.array([side, side], np.int64))
        axes = [len(scaling.shape) - 1, len(scaling.shape)]
        resized = [ir.Value(name="resized_images", type=kind)]
        rule = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        nodes.append(
            ir.node("Resize", [images, None, None, sizes], {"axes": axes, **rule}, outputs=resized)
        )
    return nodes


def scaling_graph(scaling: InputScaling) -> ir.Model:
    """A graph of the scaling alone that stands before a network, where some is needed."""
    kind = ir.TensorType(ir.DataType.FLOAT)
    image = ir.Value(name=INPUT, shape=ir.Shape(["N", *scaling.shape]), type=kind)
    graph = ir.Graph([image], [], nodes=[], opset_imports={"": OPSET}, name="scaling")
    model = ir.Model(graph, ir_version=10)
    nodes = _scaling_nodes(model, image, scaling)
    nodes[-1].outputs[0].name = OUTPUT
    graph.extend(nodes)
    graph.outputs.append(nodes[-1].outputs[0])
    return model


def set_groups(model: ir.Model, groups: Mapping[str, int]) -> None:
    """Let convolutions have another number of groups, by the names of their weights."""
    for node in model.graph:
        weight = node.inputs[1] if node.op_type == "Conv" else None
        if weight is not None and weight.name is not None and weight.name in groups:
            node.attributes["group"] = ir.AttrInt64("group", groups[weight.name])


def constant(model: ir.Model, name: str, values: np.ndarray) -> ir.Value:
    """A tensor that is stored in the graph; equal names are the same tensor."""
    known = model.graph.initializers.get(name)
    if known is None:
        tensor = ir.tensor(values, name=name)
        known = ir.Value(
            name=name,
            shape=ir.Shape(values.shape),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        model.graph.register_initializer(known)
    return known


def _strip(model: ir.Model) -> None:
    """Remove the exporter's notes on where nodes come from, which fill most of a small graph."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in model.graph.outputs:
                value.shape = value.type = None
