"""What a network learns: one file a task, all behind one seam."""

from mutualnet.tasks.base import Score, ScoreAccumulator, Task
from mutualnet.tasks.classification import Classification

__all__ = ["Classification", "Score", "ScoreAccumulator", "Task"]
