"""What a network learns: one file a task, all behind one interface."""

from __future__ import annotations

from mutualnet.tasks.action_recognition import (
    ActionRecognition,
    SlowFastActionRecognition,
    frame_indices,
)
from mutualnet.tasks.base import Score, ScoreAccumulator, Task
from mutualnet.tasks.classification import Classification
from mutualnet.tasks.detection import Detection, InstanceSegmentation
from mutualnet.tasks.detector_cost import detector_macs
from mutualnet.tasks.known import TASKS, make_task
from mutualnet.tasks.multilabel import MultiLabel

__all__ = [
    "TASKS",
    "ActionRecognition",
    "Classification",
    "Detection",
    "InstanceSegmentation",
    "MultiLabel",
    "Score",
    "ScoreAccumulator",
    "SlowFastActionRecognition",
    "Task",
    "detector_macs",
    "frame_indices",
    "make_task",
]
