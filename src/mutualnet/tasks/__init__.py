"""What a network learns: one file a task, all behind one interface."""

from __future__ import annotations

from mutualnet.tasks.action_recognition import (
    ActionRecognition,
    SlowFastActionRecognition,
    frame_indices,
)
from mutualnet.tasks.base import Score, ScoreAccumulator, Task
from mutualnet.tasks.classification import Classification
from mutualnet.tasks.known import TASKS, make_task
from mutualnet.tasks.multilabel import MultiLabel

__all__ = [
    "TASKS",
    "ActionRecognition",
    "Classification",
    "MultiLabel",
    "Score",
    "ScoreAccumulator",
    "SlowFastActionRecognition",
    "Task",
    "frame_indices",
    "make_task",
]
