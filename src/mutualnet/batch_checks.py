"""What a step refuses to learn from: images and labels that would only show as a wrong loss."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mutualnet.tasks.base import Task

NUM_CHECKED = 8
"""First batches of each network whose values are read on an accelerator, where reading them waits
for the device."""
_seen: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


class NonFiniteImagesError(ValueError):
    """An image holds a value that is not a finite number."""


class BatchCheck:
    """Checks of one batch: of the types always, of the values on a CPU and for the first batches.

    Args:
        network: Whose batches are counted.
        task: Knows images and labels.
        batch: At the top resolution.

    Raises:
        TypeError: If the images are not floating point.
        NonFiniteImagesError: If an image holds a value that is not a finite number.
    """

    def __init__(self, network: nn.Module, task: Task, batch: Any) -> None:
        self._task, self._batch = task, batch
        images = task.inputs(batch)
        count = _seen.get(network, 0)
        self._reads_values = images.device.type == "cpu" or count < NUM_CHECKED
        if images.device.type != "cpu":
            _seen[network] = count + 1
        if not images.is_floating_point():
            raise TypeError(
                f"images must be floating point, got {images.dtype}. Scale them to [0, 1] and "
                "normalise them as for the network."
            )
        if self._reads_values and not _is_finite(images):
            bad = (~images.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
            raise NonFiniteImagesError(
                f"images must hold finite numbers, got others in {len(bad)} of {len(images)}, "
                f"the first is number {bad[0]} of the batch. Repair the data or its transform."
            )

    def labels(self, outputs: Any) -> None:
        """Check the labels, once it is known how many classes the network has.

        Raises:
            TypeError: If the labels are of the wrong type.
            ValueError: If they are of the wrong shape or out of range.
        """
        self._task.check_labels(outputs, self._batch, reads_values=self._reads_values)


def _is_finite(images: Tensor) -> bool:
    # A sum of 64 images of 224 pixels takes 3 ms where looking at each value takes 120 ms, on one
    # thread; one that overflows is looked at again.
    dtype = torch.promote_types(images.dtype, torch.float32)
    return bool(images.detach().sum(dtype=dtype).isfinite()) or bool(images.isfinite().all())
