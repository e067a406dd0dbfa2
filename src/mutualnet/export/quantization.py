"""INT8 variants of exported graphs: calibrated on train images, scored as the table's rows are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import Tensor

from mutualnet.export.graphs import quiet
from mutualnet.export.verification import largest_difference
from mutualnet.messages import first_line
from mutualnet.runtime import INPUT, OUTPUT, Artifact, Configuration
from mutualnet.score import Score
from mutualnet.space import INT8
from mutualnet.table import TEST, Row
from mutualnet.tasks.base import Task

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

NUM_CALIBRATION_IMAGES = 256
"""Train images that the ranges of activations come from, in whole batches of the run."""
_QUANTIZED = ("Conv", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "AveragePool", "Relu", "Clip")
"""Operators that ONNX Runtime computes, or passes on, in 8 bits on a CPU."""
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class QuantizationData:
    """The images of a run, as its network sees them at the top resolution."""

    calibration: np.ndarray
    """Train images float32 (N, C, H, W)."""
    splits: Mapping[str, Callable[[], Iterable[Any]]]
    """Batches of the split that chooses, and of `test` where that is another."""
    task: Task
    """Keeps score."""


def quantized_variants(
    folder: Path,
    exported: Sequence[tuple[Configuration, Row]],
    data: QuantizationData,
    say: Callable[[str], None] = lambda line: None,
) -> list[tuple[Configuration, Row]]:
    """Write an INT8 variant of every graph beside it, with weights of its own.

    Weights have 8 bits and a scale for each output channel, activations 8 bits and a scale for each
    tensor, from the smallest and largest values on the calibration images.

    Args:
        folder: Of the graphs and their weights.
        exported: Configurations with their rows in the table.
        data: To calibrate and score on.
        say: Told what was made, a line each.

    Returns:
        Configurations with rows, without latencies. Multiply-adds and parameters are counted as in
        float32; scores are ONNX Runtime's, on all images of the splits.

    Raises:
        ValueError: If a graph cannot be quantised.
    """
    made = []
    for number, (configuration, row) in enumerate(exported):
        source = folder / configuration.graph
        graph = folder / f"{source.stem}-{INT8}.onnx"
        try:
            _quantize(source, graph, data.calibration, configuration.batch_size)
            session = _session(graph)
            found, expected = (
                _outputs(each, data.calibration[:_BATCH], configuration.batch_size)
                for each in (session, _session(source))
            )
        except Exception as error:  # ONNX Runtime's tools raise anything
            raise ValueError(
                f"{row.subnet} cannot be quantised ({first_line(error)}). Export without --int8."
            ) from None
        variant = replace(
            configuration,
            subnet=replace(row.subnet, precision=INT8),
            graph=graph.name,
            num_bytes=graph.stat().st_size,
            max_difference=largest_difference(found, expected),
        )
        made.append((variant, row, session))
        say(f"quantised {row.subnet} ({number + 1} of {len(exported)})")
    scores = {split: _scores(made, batches(), data.task) for split, batches in data.splits.items()}
    return [
        (variant, _row(variant, row, {split: found[place] for split, found in scores.items()}))
        for place, (variant, row, _) in enumerate(made)
    ]


def keep_front(artifact: Artifact, say: Callable[[str], None] = lambda line: None) -> Artifact:
    """Remove the INT8 variants that are not on the front of score over latency.

    Args:
        artifact: Measured; rewritten.
        say: Told what stays and what goes.
    """
    front = {row.subnet for row in artifact.table.front("latency_ms")}
    variants = [c for c in artifact.manifest.configurations if c.subnet.precision == INT8]
    kept = [c for c in variants if c.subnet in front]
    num_bytes = sum(c.num_bytes for c in kept)
    names = f": {', '.join(str(c.subnet) for c in kept)}" if kept else ""
    say(
        f"{len(kept)} of {len(variants)} {INT8} variants are on the front of score over latency "
        f"and stay, {num_bytes} bytes{names}"
    )
    return artifact.without([c.subnet for c in variants if c not in kept])


def _quantize(source: Path, out: Path, images: np.ndarray, batch_size: int | None) -> None:
    import onnxruntime
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            size = batch_size or _BATCH
            self._batches = iter(
                [images[start : start + size] for start in range(0, len(images), size)]
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    plain = out.with_suffix(".plain")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    # Computes the slices of the shared weights, and fuses norms into convolutions.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(plain)
    try:
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        model = onnx.shape_inference.infer_shapes(onnx.load(plain))
        # The mark of a model that was optimised before, without which the tool warns.
        model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
        with quiet():
            quantize_static(
                model,
                str(out),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # 7 bits of the weights: sums of products overflow without it where the processor
                # has no VNNI instructions, and the scores would be this machine's alone.
                reduce_range=True,
                op_types_to_quantize=list(_QUANTIZED),
            )
    finally:
        plain.unlink(missing_ok=True)


def _session(graph: Path) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _outputs(session: InferenceSession, images: np.ndarray, batch_size: int | None) -> np.ndarray:
    size = batch_size or max(1, len(images))
    return np.concatenate(
        [
            session.run([OUTPUT], {INPUT: images[start : start + size]})[0]
            for start in range(0, len(images), size)
        ]
    )


def _as_tensor(session: InferenceSession, batch_size: int | None, inputs: Tensor) -> Tensor:
    """Outputs of a graph where a task wants those of a network."""
    images = inputs.float().contiguous().numpy()
    return torch.from_numpy(_outputs(session, images, batch_size))


def _scores(
    made: Sequence[tuple[Configuration, Row, InferenceSession]], batches: Iterable[Any], task: Task
) -> list[Score]:
    """Scores of all variants from one reading of the images."""
    found = [task.new_score() for _ in made]
    for batch in batches:
        for score, (variant, _, session) in zip(found, made, strict=True):
            network = partial(_as_tensor, session, variant.batch_size)
            score.update(task.run(network, batch), batch)
    return [score.compute() for score in found]


def _row(variant: Configuration, row: Row, scores: Mapping[str, Score]) -> Row:
    chose = next(iter(scores.values()))
    tested = scores.get(TEST) if len(scores) > 1 else None
    return replace(
        row,
        subnet=variant.subnet,
        score=chose.value,
        standard_error=chose.standard_error,
        num_samples=chose.num_samples,
        latency_ms=None,
        test_score=None if tested is None else tested.value,
        test_standard_error=None if tested is None else tested.standard_error,
    )
