"""What all tests share: one seed, no denormals, and the way to the shared data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

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


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A file of noise, 60 pixels wide and 40 high."""
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photo_folder(tmp_path: Path, photo: Path) -> Path:
    """Two images, one of them deeper, among other and hidden files."""
    root = tmp_path / "photos"
    (root / "b" / ".cache").mkdir(parents=True)
    for place in (root / "z.PNG", root / "b" / "a [1].jpg", root / "b" / ".cache" / "c.png"):
        Image.open(photo).save(place)
    shutil.copy(photo, root / ".hidden.png")
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A digits run of two steps with a table of four sub-networks; nobody writes into it."""
    return _tabulated(tmp_path_factory, 2, "space.width_step=0.75", "table.latency_runs=2")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A digits run of four steps with a full table that was not timed; nobody writes into it."""
    settings = ["space.width_step=0.375", "table.latency_runs=0"]
    return _tabulated(tmp_path_factory, 4, *settings, is_full=True)


def _tabulated(
    places: pytest.TempPathFactory, steps: int, *settings: str, is_full: bool = False
) -> Path:
    from mutualnet.commands import make_table  # slow to import
    from mutualnet.training import train
    from tests.small_runs import digits

    out = places.mktemp("runs") / "run"
    recipe = digits("table.num_calibration_samples=64", *settings)
    make_table(train(recipe, out, limit_steps=steps), is_full=is_full)
    return out


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, and no cache of artifacts but its own."""
    monkeypatch.setenv("MUTUALNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path
