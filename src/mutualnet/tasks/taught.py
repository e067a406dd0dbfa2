"""Any task, with a fixed teacher beside the labels."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mutualnet.space import Subnet
from mutualnet.tasks.base import ScoreAccumulator, Task


@dataclass(frozen=True, kw_only=True)
class Taught(Task):
    """A task whose labels are joined by a trained network's outputs.

    A batch is the task's own batch and the teacher's outputs for it. The loss on labels becomes
    (1 - alpha) times the task's and alpha times the divergence from the teacher.

    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2;
        Mishra and Marr 2018, https://arxiv.org/abs/1711.05852, section 5 (Apprentice, whose fixed
        teacher has alpha 1/2 and temperature 1).
    """

    task: Task
    """What is learned from labels, and how sub-networks learn from the largest."""
    teacher_task: Task
    """The same task at the teacher's temperature."""
    alpha: float = 0.5
    """Share of the teacher, in [0, 1]."""

    @property
    def score_name(self) -> str:  # type: ignore[override]
        """That of the task."""
        return self.task.score_name

    def scale(self, batch: Any, subnet: Subnet) -> Any:
        """Scale the task's part; what the teacher saw stays at the top resolution."""
        own, taught = batch
        return self.task.scale(own, subnet), taught

    def inputs(self, batch: Any) -> Tensor:
        """The task's inputs."""
        return self.task.inputs(batch[0])

    def supervised_loss(self, outputs: Any, batch: Any) -> Tensor:
        """Labels and teacher, by their shares."""
        own, taught = batch
        labels = self.task.supervised_loss(outputs, own)
        return (1 - self.alpha) * labels + self.alpha * self.teacher_task.distill_loss(
            outputs, taught
        )

    def distill_loss(self, outputs: Any, teacher_outputs: Any) -> Tensor:
        """As the task does it: this is about the largest sub-network, not about the teacher."""
        return self.task.distill_loss(outputs, teacher_outputs)

    def new_score(self) -> ScoreAccumulator:
        """The task's score."""
        return self.task.new_score()
