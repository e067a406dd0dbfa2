"""MutualNet on objects against US-Net and networks trained alone; a section of `docs/results.md`.

`python benchmarks/objects.py OUT --data DIR` trains what `objects.json` lacks, on one thread; then
`python benchmarks/study.py --page` writes the page.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.objects_page import RESULTS
from mutualnet.calibration import calibrate
from mutualnet.config import ComputeConfig, Recipe, with_method
from mutualnet.cost import CostModel
from mutualnet.evaluation import evaluate
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import load_run
from mutualnet.runtime import device_name
from mutualnet.training import load_run_data, plain_task, train

EPOCHS = 8
BATCH_SIZE = 4
SEED = 0
ALONE = ((1.0, 192), (0.25, 96), (0.25, 192), (1.0, 96))
"""Width and short side of the networks that are trained alone."""


def recipes() -> dict[str, Recipe]:
    """What is trained, by the name of its method; short, and without a look at select images."""
    base = load_recipe("nuclei_mask_rcnn")
    base = replace(
        base,
        optimizer=replace(base.optimizer, epochs=EPOCHS, warmup_epochs=0.2 * EPOCHS),
        # One format for all: the probe's choice depends on what else the machine does.
        compute=ComputeConfig(precision="fp32", memory_format="contiguous"),
        watch=replace(base.watch, every_epochs=0),
        data=replace(base.data, batch_size=BATCH_SIZE),
        seed=SEED,
    )
    found = {name: with_method(base, name) for name in ("mutualnet", "us_net")}
    for width, side in ALONE:
        found[f"alone {width:g}x{side}"] = with_method(
            base, "independent", width_range=(width, width), resolutions=(side,)
        )
    return found


def measure(recipe: Recipe, place: Path, data: str) -> dict[str, Any]:
    """Train a network, and score its sub-networks at the ends of the grid on the test split."""
    recipe = replace(recipe, data=replace(recipe.data, path=data))
    began = time.process_time()
    train(recipe, place)
    seconds = time.process_time() - began
    run = load_run(place, with_table=False)
    fed, task = load_run_data(run), plain_task(recipe)
    grid = run.supernet.space.grid()
    subnets = [s for s in grid if (s.width_mult, s.resolution) in ALONE]
    calibrate(
        run.supernet,
        fed.calibration(128),
        subnets,
        task=task,
        data_id=fed.splits.data_id,
        num_samples=128,
    )
    scores = evaluate(run.supernet, fed.whole(fed.splits.test), subnets, task=task)
    costs = CostModel(run.supernet)
    return {
        "steps": run.info["steps"],
        "images": {"train": len(fed.splits.train), "test": len(fed.splits.test)},
        "cpu_seconds": round(seconds),
        "rows": [
            {
                "width": subnet.width_mult,
                "side": subnet.resolution,
                "macs": costs.macs(subnet),
                "ap": round(scores[subnet].value, 3),
                "standard_error": round(scores[subnet].standard_error, 3),
            }
            for subnet in subnets
        ],
    }


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="gets the runs")
    parser.add_argument("--data", type=Path, required=True, help="folder of nuclei")
    words = parser.parse_args()
    if not words.data.is_dir():
        parser.error(f"--data must be a folder, got {words.data}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    done = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"runs": {}}
    done |= {
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "seed": SEED,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processor": device_name(),
    }
    for name, recipe in recipes().items():
        if name not in done["runs"]:
            place = words.out / name.replace(" ", "_")
            try:
                done["runs"][name] = measure(recipe, place, str(words.data))
            except ValueError as error:
                parser.error(str(error))
            RESULTS.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
