"""What all tests share: one seed, no denormals, and the way to the shared data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.fixtures import write_images

torch.set_flush_denormal(True)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real images beside the repository."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the shared data are not beside the repository")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """`train/` with 10 cats and 20 dogs, `val/` with 3 and 4."""
    write_images(tmp_path / "train", {"cat": 10, "dog": 20})
    write_images(tmp_path / "val", {"cat": 3, "dog": 4}, blue=100)
    return tmp_path
