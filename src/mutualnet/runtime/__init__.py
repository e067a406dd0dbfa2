"""The device side: read an artifact and run it within a budget, without PyTorch.

numpy, Pillow and ONNX Runtime do all of it: `pip install 'mutualnet[runtime]'`.
"""

from __future__ import annotations

from mutualnet.runtime.archive import write_archive
from mutualnet.runtime.artifact import Artifact, digest_of
from mutualnet.runtime.device import device_name
from mutualnet.runtime.labelled_images import LabelledImages, read_labelled
from mutualnet.runtime.manifest import (
    MANIFEST,
    TABLE,
    TASKS,
    WEIGHTS,
    ArtifactError,
    Configuration,
    Manifest,
)
from mutualnet.runtime.measurement import Latency, findings, measure, with_latencies
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
    "LabelledImages",
    "Latency",
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
    "score_images",
    "sign",
    "with_latencies",
    "write_archive",
]
