"""An exported graph must give what PyTorch gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mutualnet.messages import first_line
from mutualnet.runtime import INPUT, OUTPUT

TOLERANCE = 1e-4
"""Largest difference of outputs, as a share of the largest one where that is above 1."""
INPUT_TOLERANCE = 1e-3
"""Largest difference of a pixel after the resize; float32 places its weights to 1e-4."""


def largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of outputs, by the rule of `TOLERANCE`; infinite between other shapes."""
    if found.shape != expected.shape:
        return float("inf")
    largest = max(1.0, float(np.abs(expected).max(initial=0)))
    difference = float(np.abs(found - expected).max(initial=0)) / largest
    return difference if np.isfinite(difference) else float("inf")


def outputs_of(module: nn.Module, images: Tensor, num_classes: int) -> np.ndarray:
    """What a plain network gives in PyTorch, in float32 on the CPU.

    Raises:
        ValueError: If that is not a logit for each class.
    """
    with torch.inference_mode():
        outputs = module(images)
    if not isinstance(outputs, Tensor) or outputs.shape[1:] != (num_classes,):
        raise ValueError(
            f"a network to export must give one tensor of logits (N, {num_classes}) for its "
            f"{num_classes} class_names, got "
            f"{tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__}"
        )
    return outputs.float().numpy()


def outputs_of_graph(path: Path, images: np.ndarray, batch_size: int | None) -> np.ndarray:
    """What a graph gives in ONNX Runtime.

    Args:
        path: Of the graph; its weights lie beside it.
        images: float32 (N, C, H, W).
        batch_size: Images that it takes at once; None for any number.

    Raises:
        ValueError: If it cannot be run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    size = batch_size or len(images)
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        return np.concatenate([session.run([OUTPUT], {INPUT: batch})[0] for batch in batches])
    except Exception as error:  # ONNX Runtime has a class for each of its codes
        raise ValueError(f"{path.name} does not run in ONNX Runtime: {first_line(error)}") from None


def check_difference(difference: float, what: str, tolerance: float = TOLERANCE) -> None:
    """Refuse what differs by more than rounding.

    Raises:
        ValueError: If it does.
    """
    if not difference <= tolerance:
        raise ValueError(
            f"{what} must give what PyTorch gives within {tolerance:g}, got a difference of "
            f"{difference:.3g}. Nothing was written. Try another version of torch or onnxscript."
        )
