"""From a trained network to what a device runs: an artifact, or one configuration by itself.

The graphs of an artifact read slices of one file of weights; every one is verified before anything
is written. Start at `artifact_writer`.
"""

from __future__ import annotations

from mutualnet.export.artifact_writer import ArtifactInfo, choose_rows, write_artifact
from mutualnet.export.from_run import SUFFIX, check_place, export_run
from mutualnet.export.graphs import InputScaling, scaling_graph
from mutualnet.export.quantization import keep_front
from mutualnet.export.standalone import SUFFIXES, write_standalone
from mutualnet.export.verification import TOLERANCE

__all__ = [
    "SUFFIX",
    "SUFFIXES",
    "TOLERANCE",
    "ArtifactInfo",
    "InputScaling",
    "check_place",
    "choose_rows",
    "export_run",
    "keep_front",
    "scaling_graph",
    "write_artifact",
    "write_standalone",
]
