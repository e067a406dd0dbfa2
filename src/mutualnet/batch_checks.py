"""What a step refuses to learn from: images and labels that would only show as a wrong loss."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mutualnet.tasks.base import Task

NUM_CHECKED = 8
"""First batches of each network whose values are read on an accelerator, where reading them waits
for the device."""
_seen: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


class NonFiniteImagesError(ValueError):
    """An image holds a value that is not a finite number."""


class BatchCheck:
    """Checks of one batch: of the types always, of the values on a CPU and for the first batches.

    What a network is called with is checked at once, other labels once it has answered.

    Args:
        network: Whose batches are counted.
        task: Knows images and labels.
        batch: At the top resolution.

    Raises:
        TypeError: If the images are not floating point, or labels of the wrong type.
        NonFiniteImagesError: If an image holds a value that is not a finite number.
        ValueError: If there is no image, or labels that the network is called with do not fit.
    """

    def __init__(self, network: nn.Module, task: Task, batch: Any) -> None:
        self._task, self._batch = task, batch
        inputs = task.inputs(batch)
        if not task.num_samples(batch):
            raise ValueError(
                "a batch must hold at least one image, got none: its losses and gradients are no "
                "numbers. Leave it out."
            )
        tensors = [value for value in tree_leaves(inputs) if isinstance(value, Tensor)]
        on_cpu = all(tensor.device.type == "cpu" for tensor in tensors)
        count = _seen.get(network, 0)
        self._reads_values = on_cpu or count < NUM_CHECKED
        if not on_cpu:
            _seen[network] = count + 1
        for tensor in tensors:
            if not tensor.is_floating_point():
                raise TypeError(
                    f"images must be floating point, got {tensor.dtype}. Scale them to [0, 1] and "
                    "normalise them as for the network."
                )
        if self._reads_values and not is_finite(tensors):
            bad = _not_finite(inputs)
            raise NonFiniteImagesError(
                f"images must hold finite numbers, got others in {len(bad)} of "
                f"{task.num_samples(batch)}, the first is number {bad[0]} of the batch. Repair the "
                "data or its transform."
            )
        task.check_batch(batch, reads_values=self._reads_values)

    def labels(self, outputs: Any) -> None:
        """Check the labels, once it is known how many classes the network has.

        Raises:
            TypeError: If the labels are of the wrong type.
            ValueError: If they are of the wrong shape or out of range.
        """
        self._task.check_labels(outputs, self._batch, reads_values=self._reads_values)


def _not_finite(inputs: Any) -> list[int]:
    """Places in the batch of images with a value that is not finite."""
    if isinstance(inputs, list):  # one tensor an image
        return [place for place, image in enumerate(inputs) if not bool(image.isfinite().all())]
    tensors = [value for value in tree_leaves(inputs) if isinstance(value, Tensor)]
    finite = torch.stack([tensor.flatten(1).isfinite().all(1) for tensor in tensors]).all(0)
    return [int(place) for place in (~finite).nonzero().flatten()]


def is_finite(inputs: Any) -> bool:
    """Whether all values of a network's inputs are finite numbers.

    Args:
        inputs: A tensor, or several in tuples and lists.
    """
    return all(_is_finite(value) for value in tree_leaves(inputs) if isinstance(value, Tensor))


def _is_finite(images: Tensor) -> bool:
    # A sum of 64 images of 224 pixels takes 3 ms where looking at each value takes 120 ms, on one
    # thread; one that overflows is looked at again.
    dtype = torch.promote_types(images.dtype, torch.float32)
    return bool(images.detach().sum(dtype=dtype).isfinite()) or bool(images.isfinite().all())
