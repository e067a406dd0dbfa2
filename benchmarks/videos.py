"""MutualNet on videos against networks trained alone; a section of `docs/results.md`.

`python benchmarks/videos.py --data DIR` trains what `videos.json` lacks, on one thread; then
`python benchmarks/study.py --page` writes the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.videos_page import RESULTS
from mutualnet.commands import make_table
from mutualnet.config import Recipe, override, with_epochs, with_method
from mutualnet.evaluation import evaluate
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import load_run
from mutualnet.space import Subnet
from mutualnet.training import load_run_data, plain_task, train

EPOCHS, SEED = 12, 0
ALONE = (
    Subnet(width_mult=1.0, resolution=64, num_frames=8),
    Subnet(width_mult=0.5, resolution=48, num_frames=4),
    Subnet(width_mult=0.75, resolution=48, num_frames=6),
)
"""Configurations that are trained by themselves, the most wanted ones first."""
_SETTINGS = (
    "clips.num_frames=8",
    "compute.precision=fp32",
    "compute.memory_format=channels_last",
    "table.latency_runs=0",
    "watch.every_epochs=0",
    f"seed={SEED}",
)


def mutualnet(data: str) -> Recipe:
    """The recipe `ucf6_x3d`, shorter.

    Args:
        data: Folder of the videos.
    """
    return override(with_epochs(load_recipe("ucf6_x3d"), EPOCHS), [*_SETTINGS, f"data.path={data}"])


def alone(data: str, subnet: Subnet) -> Recipe:
    """The same for one configuration by itself, on the same pixels of the same frames."""
    assert subnet.num_frames is not None
    together = mutualnet(data)
    by_itself = with_method(
        together,
        "independent",
        width_range=(subnet.width_mult, subnet.width_mult),
        resolutions=(subnet.resolution,),
        frames=(subnet.num_frames,),
    )
    return override(by_itself, [f"data.resolution={together.load_resolution}"])


def run(name: str, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train by a recipe, and score every configuration of its space on select and test.

    Args:
        name: Of the run.
        recipe: What to train.
        folder: Gets the run; one that is there already is taken.
    """
    place = folder / name
    train(recipe, place, resume=True)
    if load_run(place).table is None:
        make_table(place, is_full=True)
    done = load_run(place)
    assert done.table is not None
    data = load_run_data(done)
    subnets = [row.subnet for row in done.table.rows]
    tests = evaluate(
        done.supernet, data.whole(data.splits.test), subnets, task=plain_task(done.recipe)
    )
    return {
        "name": name,
        "epochs": recipe.optimizer.epochs,
        "batch_size": recipe.data.batch_size,
        "seed": recipe.seed,
        "steps": done.info["steps"],
        "images": {
            split: len(images)
            for split, images in (
                ("train", data.splits.train),
                ("select", data.splits.select),
                ("test", data.splits.test),
            )
        },
        "rows": [
            {
                "subnet": row.subnet.to_dict(),
                "macs": row.macs,
                "params": row.params,
                "select": row.score,
                "test": tests[row.subnet].value,
                "test_error": tests[row.subnet].standard_error,
            }
            for row in done.table.rows
        ],
    }


def main(words: Sequence[str] | None = None) -> None:
    """Train what is missing, and store each run's scores when it ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of ucf6")
    parser.add_argument("--out", type=Path, default=Path("runs/videos"), help="gets the runs")
    options = parser.parse_args(words)
    if not options.data.is_dir():
        parser.error(f"--data must be a folder, got {options.data}")
    torch.set_num_threads(1)
    data = str(options.data)
    recipes = {"mutualnet": mutualnet(data)}
    recipes |= {f"alone_{subnet}": alone(data, subnet) for subnet in ALONE}
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    for name, recipe in recipes.items():
        if name not in {result["name"] for result in found}:
            try:
                found.append(run(name, recipe, options.out))
            except ValueError as error:
                parser.error(str(error))
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
