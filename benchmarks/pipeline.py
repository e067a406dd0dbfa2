"""Images per second of the input pipeline, against one that resizes every image four times."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.timing import Ratio, paired
from mutualnet.data import load_data
from mutualnet.space import Subnet
from mutualnet.tasks.classification import Classification

SIDES = (224, 192, 160, 128)
_IMAGES, _BATCH = 128, 32


class FourSizes(Dataset[Any]):
    """Every image at every resolution, as the research code's transform makes them."""

    def __init__(self, images: Any) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        image, label = self.images[index]
        sizes = [image]
        for side in SIDES[1:]:
            small = F.interpolate(image[None], (side, side), mode="bilinear", align_corners=True)
            sizes.append(small[0])
        return sizes, label


def _write_photos(folder: Path) -> None:
    """JPEG photos of the usual size, smooth enough to compress like photos."""
    rng = np.random.default_rng(0)
    for label in range(2):
        (folder / str(label)).mkdir()
        for number in range(_IMAGES):
            coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            photo = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
            photo.save(folder / str(label) / f"{number}.jpg", quality=90)


def _ours(loader: DataLoader[Any]) -> None:
    task = Classification()
    for batch in loader:
        for side in SIDES:
            task.scale(batch, Subnet(resolution=side))


def _theirs(loader: DataLoader[Any]) -> None:
    for _ in loader:
        pass


def pipeline_ratio(num_workers: int) -> tuple[float, Ratio]:
    """Images per second of ours, and the time of ours over that of four sizes per image.

    Args:
        num_workers: Processes that load images.
    """
    with tempfile.TemporaryDirectory() as name:
        _write_photos(Path(name))
        train = load_data("imagefolder", name, resolution=SIDES[0], select_share=0.1).train
        settings: dict[str, Any] = {"batch_size": _BATCH, "num_workers": num_workers}
        mine = DataLoader(train, **settings)
        four = DataLoader(FourSizes(train), **settings)
        ratio = paired(lambda: _ours(mine), lambda: _theirs(four), pairs=11)
        return len(train) / ratio.seconds, ratio
