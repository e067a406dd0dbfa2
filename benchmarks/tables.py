"""Calibrating and scoring the whole grid in one pass, against one pass per configuration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from mutualnet.calibration import calibrate
from mutualnet.evaluation import evaluate
from mutualnet.models import wrn16_4
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet import Supernet
from mutualnet.tasks.classification import Classification

_RESOLUTIONS = (32, 28, 24, 20)


class _Decoded:
    """Batches that are JPEG-decoded and augmented when asked for, and the time that takes."""

    def __init__(self, num_batches: int, batch_size: int) -> None:
        import io

        import numpy as np
        from PIL import Image

        rng = np.random.default_rng(0)
        self._files = []
        for _ in range(batch_size):
            file = io.BytesIO()
            pixels = rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file, "JPEG", quality=90)
            self._files.append(file.getvalue())
        self._num_batches = num_batches
        self.seconds: list[float] = []

    def __iter__(self) -> Iterator[Any]:
        import io

        import numpy as np
        from PIL import Image

        for _ in range(self._num_batches):
            start = time.perf_counter()
            images = [Image.open(io.BytesIO(f)).resize((32, 32)) for f in self._files]
            stacked = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
            batch = stacked.permute(0, 3, 1, 2).float() / 255
            labels = torch.zeros(len(batch), dtype=torch.long)
            self.seconds.append(time.perf_counter() - start)
            yield batch, labels


def table_efficiency(*, num_batches: int = 16, batch_size: int = 32) -> dict[str, float]:
    """Speed-up of one shared pass over 64 separate ones, as a share of its upper bound.

    The bound is 64 (C + D) / (D + 64 C), D the time to decode a batch and C the mean time of one
    forward pass, both measured here on extracted networks that do nothing else.
    """
    torch.manual_seed(0)
    supernet = Supernet(wrn16_4(100), ElasticSpace(resolutions=_RESOLUTIONS))
    grid = supernet.space.grid()
    assert len({supernet.key(subnet) for subnet in grid}) == 64  # equal ones would run once
    task = Classification()
    data = _Decoded(num_batches, batch_size)

    def shared() -> float:
        start = time.perf_counter()
        calibrate(
            supernet, data, grid, task=task, data_id="noise", num_samples=num_batches * batch_size
        )
        evaluate(supernet, data, grid, task=task)
        return time.perf_counter() - start

    def plain_forward() -> tuple[float, float]:
        """Mean time of one plain pass in train mode and in eval mode, over the grid."""
        batch = next(iter(data))
        images = {r: task.scale(batch, Subnet(resolution=r))[0] for r in _RESOLUTIONS}
        total = [0.0, 0.0]
        with torch.no_grad():
            for subnet in grid:
                module = supernet.extract(subnet, uncalibrated=True)
                for mode in (1, 0):
                    module.train(bool(mode))
                    module(images[subnet.resolution])
                    start = time.perf_counter()
                    for _ in range(3):
                        module(images[subnet.resolution])
                    total[mode] += (time.perf_counter() - start) / 3
        return total[1] / len(grid), total[0] / len(grid)

    measured, forwards = [], [plain_forward()]
    data.seconds.clear()
    for _ in range(2):
        measured.append(shared())
        forwards.append(plain_forward())
    decode = sum(data.seconds) / len(data.seconds)
    train_c = sum(f[0] for f in forwards) / len(forwards)
    eval_c = sum(f[1] for f in forwards) / len(forwards)
    forward = (train_c + eval_c) / 2
    count = len(grid)
    ours = sum(measured) / len(measured) / (2 * num_batches)
    separate = count * (forward + decode)
    bound = count * (forward + decode) / (decode + count * forward)
    return {
        "decode_ms": 1e3 * decode,
        "forward_ms": 1e3 * forward,
        "seconds_per_batch": ours,
        "speed_up": separate / ours,
        "bound": bound,
        "share_of_bound": separate / ours / bound,
    }
