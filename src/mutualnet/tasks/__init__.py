"""What a network learns: one file a task, all behind one interface."""

from __future__ import annotations

from mutualnet.tasks.base import Score, ScoreAccumulator, Task
from mutualnet.tasks.classification import Classification
from mutualnet.tasks.known import TASKS, make_task
from mutualnet.tasks.multilabel import MultiLabel

__all__ = [
    "TASKS",
    "Classification",
    "MultiLabel",
    "Score",
    "ScoreAccumulator",
    "Task",
    "make_task",
]
