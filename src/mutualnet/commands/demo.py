"""`mutualnet demo`: a first look, on embedded images."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from PIL import Image

from mutualnet.commands.predict import predict
from mutualnet.commands.table import make_table
from mutualnet.commands.train import start_training
from mutualnet.console import make_console
from mutualnet.image_paths import as_typed
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import PLOT
from mutualnet.training import load_splits

_MARK = ".mutualnet-demo"
"""File of a directory that a demo may be written over."""


def demo(out: Path) -> None:
    """Train on the embedded digits, make the table, and predict under three budgets."""
    console = make_console()
    if out.exists():
        if not (out / _MARK).is_file():
            raise ValueError(
                f"{out} must be free or hold an earlier demo, got something else. Choose --out."
            )
        shutil.rmtree(out)
    console.print("training one network for every width from 0.25 to 1 and three resolutions ...")
    try:
        start_training("digits_demo", out=out, resume=True)
    except BaseException as error:
        # This command has no --resume: it always goes on with what it began.
        resume = f"--resume --out {as_typed(out)}"
        by_train = f"continue with {resume}, or remove it to train with other settings"
        notes = getattr(error, "__notes__", [])
        error.__notes__ = [note.replace(by_train, "type the same again") for note in notes]
        raise
    (out / _MARK).touch()
    table = make_table(out)
    images = _write_test_images(out)
    front = table.front()
    for row in (front[0], front[len(front) // 2], front[-1]):
        predict(out, images, budget=_budget_above(row.macs))
    console.print(f"plot: {out / PLOT}")


def _budget_above(macs: int) -> str:
    """The next budget with two digits."""
    millions = macs / 1e6
    unit = 10 ** (math.floor(math.log10(millions)) - 1)
    return f"{math.ceil(millions / unit) * unit:.4g}M"


def _write_test_images(out: Path) -> list[Path]:
    """Save three test digits as image files, as a user would have them."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    digits = load_digits()
    recipe = load_recipe("digits_demo")
    positions = load_splits(recipe).test.positions  # type: ignore[attr-defined]
    folder = out / "images"
    folder.mkdir()
    paths = []
    for position in positions[:3].tolist():
        path = folder / f"a_{digits.target[position]}.png"
        Image.fromarray((digits.images[position] * (255 / 16)).astype("uint8")).save(path)
        paths.append(path)
    return paths
