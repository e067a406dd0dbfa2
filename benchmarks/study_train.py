"""Train one run of a study, score its configurations, and keep its scores."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import torch

from benchmarks.study_values import StudyRun
from mutualnet.calibration import calibrate
from mutualnet.config import Recipe
from mutualnet.cost import CostModel
from mutualnet.data import calibration_loader, plain_loader
from mutualnet.distributed import training_device
from mutualnet.evaluation import evaluate
from mutualnet.precision import ComputeFormat
from mutualnet.run_directory import load_run, networks_of
from mutualnet.runtime import device_name
from mutualnet.space import Subnet
from mutualnet.training import load_splits, plain_task, train

ROOT = Path(__file__).resolve().parents[1]
CALIBRATION_SAMPLES = 1024
SCORING_BATCH = 250


def place_of(run: StudyRun, seed: int, folder: Path) -> Path:
    """Directory of a run."""
    return folder / f"{run.key()}-{seed}"


def perform(run: StudyRun, seed: int, *, folder: Path, data: Path) -> dict[str, Any]:
    """Train and score; a run that was stopped goes on, one that is trained is only scored.

    Args:
        run: Runs that it starts from are trained too, if their directories are missing.
        seed: Of every random choice.
        folder: Holds the directories of runs.
        data: Holds a folder for each data set, by its name.

    Returns:
        Plain values: rows of scores, last losses, the commit, the machine.
    """
    paths = _train(run, seed, folder=folder, data=data)
    rows = [row for number, path in enumerate(paths) for row in _score(path, number, run.subnets)]
    info = load_run(paths[0]).info
    return {
        "commit": _commit(),
        "machine": machine_name(),
        "torch": torch.__version__,
        "finished": info["finished"],
        "steps": info["steps"],
        "format": info["training_format"],
        "last_losses": {name: round(loss, 4) for name, loss in info["last_losses"].items()},
        "rows": rows,
    }


def machine_name() -> str:
    """The accelerator that trains, or the processor."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else device_name()


def begin(run: StudyRun, seed: int, *, folder: Path, data: Path) -> Recipe:
    """The recipe of a run, once the runs that it starts from or learns from are trained.

    Args:
        run: What would be trained.
        seed: Of every random choice.
        folder: Holds the directories of runs.
        data: Holds a folder for each data set, by its name.
    """
    init, teacher = (
        None if earlier is None else _train(earlier, seed, folder=folder, data=data)[-1]
        for earlier in (run.init, run.teacher)
    )
    where = None if run.data == "digits" else str(data / run.data)
    return run.recipe_of(seed, data=where, init=init, teacher=teacher)


def _train(run: StudyRun, seed: int, *, folder: Path, data: Path) -> list[Path]:
    """Directories of the run's networks, which are trained as far as they are not yet."""
    recipe, out = begin(run, seed, folder=folder, data=data), place_of(run, seed, folder)
    train(recipe, out, limit_steps=run.limit_steps, resume=True)
    return networks_of(out)


def _score(path: Path, number: int, subnets: tuple[Subnet, ...]) -> list[dict[str, Any]]:
    """Scores of one network's configurations on both held-out splits, in the format of training."""
    run = load_run(path)
    recipe, task, data = run.recipe, plain_task(run.recipe), load_splits(run.recipe)
    form = ComputeFormat.parse(run.info["training_format"])
    supernet = run.supernet.to(training_device())
    form.arrange(supernet.model)
    size = recipe.data.batch_size
    calibrate(
        supernet,
        calibration_loader(
            data.calibration,
            size,
            num_samples=CALIBRATION_SAMPLES,
            seed=recipe.seed,
            num_workers=recipe.data.num_workers,
        ),
        subnets,
        task=task,
        data_id=data.data_id,
        num_samples=CALIBRATION_SAMPLES,
        autocast=form.autocast,
    )
    select, test = (
        evaluate(
            supernet,
            plain_loader(images, SCORING_BATCH, num_workers=recipe.data.num_workers),
            subnets,
            task=task,
            autocast=form.autocast,
        )
        for images in (data.select, data.test)
    )
    costs = CostModel(supernet)
    return [
        {
            "network": number,
            "width": subnet.width_mult,
            "side": subnet.resolution,
            "macs": costs.macs(subnet),
            "select": round(select[subnet].value, 4),
            "test": round(test[subnet].value, 4),
        }
        for subnet in subnets
    ]


def _commit() -> str:
    """The commit of the code, with a mark if the code was changed since; empty without git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "src", "benchmarks/*.py")
    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
