"""Artifacts of small networks that were never trained."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mutualnet import ElasticSpace, Subnet, Supernet, calibrate
from mutualnet.cost import CostModel
from mutualnet.data import photo_transform
from mutualnet.export import ArtifactInfo, write_artifact
from mutualnet.table import QueryTable, Row
from mutualnet.tasks.classification import Classification

NAMES = tuple("abcdefghij")
SUBNETS = tuple(
    Subnet(width_mult=w, resolution=r) for w, r in [(0.25, 24), (0.5, 32), (0.75, 24), (1.0, 32)]
)


class Mixed(nn.Module):
    """Depthwise and grouped convolutions, a concatenation and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False)
        self.left = nn.Conv2d(16, 16, 1)
        self.right = nn.Conv2d(16, 24, 1)
        self.norm = nn.BatchNorm2d(40)
        self.grouped = nn.Conv2d(40, 32, 3, 1, 1, groups=4)
        self.last = nn.BatchNorm2d(32)
        self.classifier = nn.Linear(32, len(NAMES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.depthwise(x)
        x = torch.relu(self.norm(torch.cat([self.left(x), self.right(x)], dim=1)))
        x = torch.relu(self.last(self.grouped(x)))
        return self.classifier(x.mean((2, 3)))


def small_supernet(model: nn.Module | None = None, **arguments: object) -> Supernet:
    """A calibrated network of 10 classes for images of 32 pixels."""
    torch.manual_seed(0)
    space = ElasticSpace(width_range=(0.25, 1.0), resolutions=(32, 24), width_step=0.25)
    net = Supernet(model or Mixed(), arguments.pop("space", space), **arguments).eval()  # type: ignore[arg-type]
    batch = (small_images(16), torch.zeros(16, dtype=torch.long))
    calibrate(
        net, [batch], net.space.grid(), task=Classification(), data_id="noise", num_samples=16
    )
    return net


def small_images(count: int = 4) -> Tensor:
    """Smooth images (N, 3, 32, 32)."""
    coarse = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, (32, 32), mode="bicubic")


def small_table(net: Supernet, subnets: Sequence[Subnet] = SUBNETS) -> QueryTable:
    """A row for each sub-network; more multiply-adds score higher."""
    costs = CostModel(net)
    ordered = sorted(subnets, key=costs.macs)
    rows = [
        Row(
            subnet=subnet,
            score=50.0 + place,
            standard_error=1.0,
            num_samples=100,
            macs=costs.macs(subnet),
            params=costs.params(subnet),
            latency_ms=1.0 + place,
        )
        for place, subnet in enumerate(ordered)
    ]
    return QueryTable.from_rows(rows, {"score_name": "top-1 accuracy (%)"})


def small_info(task: str = "classification") -> ArtifactInfo:
    """Ten classes, images resized as CIFAR's are."""
    return ArtifactInfo(
        task=task,
        class_names=NAMES,
        preprocessing=photo_transform("cifar10", 32),
        provenance={"recipe": "none"},
    )


def small_artifact(folder: Path, net: Supernet | None = None) -> Path:
    """An artifact of four configurations."""
    net = net or small_supernet()
    table = small_table(net)
    path = folder / "small.mutualnet"
    write_artifact(path, net, table, table.rows, small_info(), small_images())
    return path


def picture(seed: int = 0, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    """Pixels uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    from PIL import Image

    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def content_of(path: Path) -> dict[str, bytes]:
    """Files of an archive by their names."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, entries: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive as a stranger might."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
