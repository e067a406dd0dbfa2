"""The tasks by name, and those of a user's own."""

from __future__ import annotations

from mutualnet.tasks.action_recognition import ActionRecognition, SlowFastActionRecognition
from mutualnet.tasks.base import Task
from mutualnet.tasks.classification import Classification
from mutualnet.tasks.detection import Detection, InstanceSegmentation
from mutualnet.tasks.multilabel import MultiLabel
from mutualnet.user_functions import call_function

TASKS: dict[str, type[Task]] = {
    "action_recognition": ActionRecognition,
    "classification": Classification,
    "detection": Detection,
    "instance_segmentation": InstanceSegmentation,
    "multilabel": MultiLabel,
    "slowfast_action_recognition": SlowFastActionRecognition,
}
"""What a recipe may name."""


def make_task(name: str) -> Task:
    """A task with its defaults, to run and score a trained network.

    Args:
        name: One of `TASKS`, or `package.module:function` for a function that makes one.

    Raises:
        ValueError: If there is no such task.
    """
    if name in TASKS:
        return TASKS[name]()
    if ":" not in name:
        raise ValueError(
            f"task must be {', '.join(TASKS)}, or package.module:function for one of yours, got "
            f"{name!r}"
        )
    task = call_function(name, "task")
    if not isinstance(task, Task):
        raise ValueError(f"{name} must return a Task, got {type(task).__name__}")
    return task
