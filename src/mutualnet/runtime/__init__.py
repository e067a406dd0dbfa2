"""The device side: read an artifact and run it within a budget, without PyTorch.

numpy, Pillow and ONNX Runtime do all of it: `pip install 'mutualnet[runtime]'`.
"""

from __future__ import annotations

import warnings
from typing import Any

from mutualnet.runtime.archive import replaced_when_whole, write_archive
from mutualnet.runtime.artifact import Artifact, digest_of
from mutualnet.runtime.device import device_name
from mutualnet.runtime.evaluation_images import EvaluationImages, read_labelled
from mutualnet.runtime.manifest import (
    MANIFEST,
    TABLE,
    TASKS,
    WEIGHTS,
    ArtifactError,
    Configuration,
    Manifest,
)
from mutualnet.runtime.measurement import LatencyPercentiles, findings, measure, with_latencies
from mutualnet.runtime.predictions import Prediction, probabilities
from mutualnet.runtime.runner import AdaptiveRunner
from mutualnet.runtime.scoring import Scores, score_images
from mutualnet.runtime.sessions import INPUT, OUTPUT, Sessions, load_session
from mutualnet.runtime.signature import sign

__all__ = [
    "INPUT",
    "MANIFEST",
    "OUTPUT",
    "TABLE",
    "TASKS",
    "WEIGHTS",
    "AdaptiveRunner",
    "Artifact",
    "ArtifactError",
    "Configuration",
    "EvaluationImages",
    "LatencyPercentiles",
    "Manifest",
    "Prediction",
    "Scores",
    "Sessions",
    "device_name",
    "digest_of",
    "findings",
    "load_session",
    "measure",
    "probabilities",
    "read_labelled",
    "replaced_when_whole",
    "score_images",
    "sign",
    "with_latencies",
    "write_archive",
]

_OLD_NAMES = {"LabelledImages": "EvaluationImages", "Latency": "LatencyPercentiles"}


def __getattr__(name: str) -> Any:
    if name not in _OLD_NAMES:
        raise AttributeError(f"module 'mutualnet.runtime' has no attribute {name!r}")
    new = _OLD_NAMES[name]
    warnings.warn(
        f"mutualnet.runtime.{name} is now mutualnet.runtime.{new}", DeprecationWarning, stacklevel=2
    )
    return globals()[new]
