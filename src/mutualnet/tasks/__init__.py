"""What a network learns: one file a task, all behind one interface."""

from __future__ import annotations

from mutualnet.tasks.base import Score, ScoreAccumulator, Task
from mutualnet.tasks.classification import Classification
from mutualnet.tasks.multilabel import MultiLabel

__all__ = ["Classification", "MultiLabel", "Score", "ScoreAccumulator", "Task"]
