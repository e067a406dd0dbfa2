"""One batch at the resolutions of several sub-networks, each made once."""

from __future__ import annotations

from typing import Any

from mutualnet.space import Subnet
from mutualnet.tasks.base import Task


class ScaledBatch:
    """A batch that is scaled when a sub-network first asks for its resolution and frames.

    Args:
        task: Knows how to scale it.
        batch: At the top resolution, on its device.
    """

    def __init__(self, task: Task, batch: Any) -> None:
        self._task, self._batch = task, batch
        self._scaled: dict[tuple[int, int | None], Any] = {}

    def at(self, subnet: Subnet) -> Any:
        """The batch as the sub-network sees it."""
        key = subnet.resolution, subnet.num_frames
        if key not in self._scaled:
            self._scaled[key] = self._task.scale(self._batch, subnet)
        return self._scaled[key]
