"""Training by a recipe: from its first step, or from where an interrupted run stopped."""

from __future__ import annotations

import json
import logging
import platform
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import timm
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Callback

from mutualnet.config import Recipe
from mutualnet.distributed import current_ranks, from_first, training_device
from mutualnet.precision import ComputeFormat
from mutualnet.run_directory import CHECKPOINTS, FORMAT, LOGS, new_run, preprocessing_of
from mutualnet.training.callbacks import CapacityGap, CheckpointWriter, EpochEnds, ProgressBar
from mutualnet.training.checkpoints import latest_checkpoint, write_checkpoint
from mutualnet.training.divergence import check_learned
from mutualnet.training.epoch_log import EpochLog
from mutualnet.training.finish import are_scored, final_scores, save_networks
from mutualnet.training.module import READABLE_CHECKPOINTS, TrainingModule
from mutualnet.training.networks import Origin
from mutualnet.training.setup import TrainingSetup, set_up_training
from mutualnet.training.watch import describe_watch, watch

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    limit_steps: int | None = None,
    resume: bool = False,
    progress: bool = False,
    trust: bool = False,
) -> Path:
    """Train by a recipe and write a run directory.

    Every random choice is a function of the seed and of its place in the run, so a run that was
    interrupted at any point and resumed ends with the weights of one that was not: to the same bits
    on a CPU with the same number of threads and processes.

    Args:
        recipe: What to train, on what, and how.
        out: Directory that the run gets when it is whole. Must not exist yet.
        limit_steps: Stop after this many steps, at which cosine and linear schedules end then. 0
            writes the networks as they begin, such as a pretrained one that became elastic.
        resume: Go on with an unfinished run of `out`, if there is one.
        progress: Show a progress bar with the losses of every sub-network.
        trust: Import and call functions that a teacher's run names; those of `recipe` are yours.

    Returns:
        The directory.

    Raises:
        ValueError: If `out` exists, the recipe does not fit its data or model, or an unfinished run
            is in the way or was of another recipe.
        TrainingDivergedError: If a loss is not finite, or training ended with useless weights or
            losses. It names the sub-network or the loss, and the step.
    """
    if limit_steps is not None:
        if limit_steps < 0:
            raise ValueError(f"limit_steps must be >= 0, got {limit_steps}")
        limit_steps = int(limit_steps)  # checkpoints hold plain numbers only
    out = Path(out)
    with new_run(out, recipe, resume=resume) as partial:
        if partial is None:
            logger.info("%s is already trained", out)
            return out
        started = time.time()
        state = from_first(_checkpoint_of(partial) if resume and current_ranks().is_first else None)
        compute_format = _format_of(partial) if resume else None
        setup = set_up_training(
            recipe,
            compute_format=compute_format,
            limit_steps=limit_steps,
            trust=trust,
            origins=None if state is None else _origins(state),
        )
        if current_ranks().is_first:
            chosen = [setup.compute_format.precision, setup.compute_format.memory_format]
            (partial / FORMAT).write_text(json.dumps(chosen) + "\n")
        module = _module(setup, state)
        with _epoch_log(partial, module) as log:
            seconds = _fit(module, partial, progress, log)
            if (are_scored(setup) or recipe.watch.every_epochs) and current_ranks().is_first:
                # What comes may fail or be stopped; training is not to be lost with it.
                write_checkpoint(partial / CHECKPOINTS, module.done, module.state())
            module.finish()
            check_learned(setup, module.history.last_losses(), module.done)
            if recipe.watch.every_epochs and module.done:
                _watch_last(module, log)
        run_info = _run_info(module, started, seconds)
        scores = final_scores(setup)
        if current_ranks().is_first:
            save_networks(setup, partial, run_info, scores, module.history.validation)
            shutil.rmtree(partial / CHECKPOINTS, ignore_errors=True)  # a whole run needs none
    return out


@contextmanager
def _epoch_log(partial: Path, module: TrainingModule) -> Iterator[EpochLog | None]:
    """What writes the rows of the run, in the first process."""
    if not current_ranks().is_first:
        yield None
        return
    with (
        _known_warnings(),
        EpochLog(partial / LOGS, module.history, start=module.start) as log,
    ):
        yield log


def _watch_last(module: TrainingModule, log: EpochLog | None) -> None:
    """Score what the run ends with."""
    for supernet in module.shipped():
        supernet.to(training_device())  # Lightning leaves the networks on the CPU
    watch(module)
    if log is not None:
        log.write()
        logger.info("%s", describe_watch(module))


def _checkpoint_of(partial: Path) -> dict[str, Any] | None:
    found = latest_checkpoint(partial / CHECKPOINTS)
    if found is None:
        logger.info("no checkpoint to resume from: training starts at step 1")
        return None
    if found[1].get("format_version") not in READABLE_CHECKPOINTS:
        raise ValueError(
            f"the checkpoints in {partial / CHECKPOINTS} were written by another version of "
            "mutualnet. Resume with that version, or remove the unfinished run."
        )
    logger.info("resuming after step %d", found[0])
    return found[1]


def _origins(state: dict[str, Any]) -> list[Origin]:
    """What the networks of an interrupted run began with; before it could sort, it did not."""
    names = state["initialized"]
    by = state.get("sorted_by", [None] * len(names))
    return [Origin(tuple(own), how) for own, how in zip(names, by, strict=True)]


def _format_of(partial: Path) -> ComputeFormat | None:
    """The format that the interrupted run had chosen: a probe may choose another now."""
    try:
        return ComputeFormat(*json.loads((partial / FORMAT).read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _module(setup: TrainingSetup, state: dict[str, Any] | None) -> TrainingModule:
    if state is None:
        return TrainingModule(setup)
    if state["stop"] != setup.batches.stop:
        raise ValueError(
            f"the interrupted run was to take {state['stop']} steps, this one "
            f"{setup.batches.stop}. Give the same --limit-steps, data and number of processes."
        )
    if state["data_id"] != setup.data.data_id:
        raise ValueError(
            f"{setup.recipe.data.place} must hold the data that the interrupted run began with, "
            "got others. Restore them, or remove the unfinished run."
        )
    if state.get("teacher_hash") not in (None, setup.teacher_hash):  # None before it was kept
        raise ValueError(
            f"teacher {setup.recipe.teacher.name} must have the weights that the interrupted run "
            "began with, got others. Restore them, or remove the unfinished run."
        )
    if state["num_ranks"] != current_ranks().size:
        logger.warning(
            "the run began with %d processes and continues with %d: BN will see other batches, so "
            "its weights will not be those of an uninterrupted run",
            state["num_ranks"],
            current_ranks().size,
        )
    module = TrainingModule(setup, start=state["step"])
    module.load_state(state)
    return module


def _run_info(module: TrainingModule, started: float, seconds: float) -> dict[str, Any]:
    setup, recipe = module.training_setup, module.recipe
    return {
        "recipe": recipe.name,
        "task": recipe.task,
        "class_names": list(setup.data.class_names),
        "in_channels": setup.data.in_channels,
        "mean": list(setup.data.mean),
        "std": list(setup.data.std),
        "preprocessing": preprocessing_of(recipe, setup.data.eval_transform).to_values(),
        "data_id": setup.data.data_id,
        "select": setup.data.selection.to_dict(),
        "training_format": str(setup.compute_format),
        "steps": module.done,
        "resumed_after_step": module.start or None,
        "processes": current_ranks().size,
        "seconds": round(seconds, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime()),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "last_losses": module.history.last_losses(),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "timm": timm.__version__,
            "lightning": L.__version__,
        },
    }


def _fit(module: TrainingModule, partial: Path, progress: bool, log: EpochLog | None) -> float:
    """Take all steps that are left; return the seconds they took."""
    setup, start = module.training_setup, module.start
    callbacks: list[Callback] = [EpochEnds(log)]
    if current_ranks().is_first:
        # After the epoch's row and scores, which belong to the checkpoint.
        callbacks.append(CheckpointWriter(partial / CHECKPOINTS, setup.recipe.checkpoint_minutes))
        if setup.recipe.teaching.method in ("dml", "dcm"):
            callbacks.append(CapacityGap())
        if progress:
            callbacks.append(ProgressBar())
    loader, device = setup.loader(start), training_device()
    is_cuda = device.type == "cuda"
    with _known_warnings():
        trainer = L.Trainer(
            accelerator="gpu" if is_cuda else "cpu",
            devices=[device.index or 0] if is_cuda else 1,
            # Several processes are ours to join: to Lightning each one is alone.
            plugins=LightningEnvironment(),
            max_epochs=1,  # the loader holds all steps that are left
            logger=False,
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        began = time.perf_counter()
        if len(loader):
            try:
                trainer.fit(module, loader)
            except SystemExit:  # how Lightning ends on Ctrl-C
                if trainer.interrupted:
                    raise KeyboardInterrupt from None
                raise
    if trainer.interrupted:
        raise KeyboardInterrupt
    return time.perf_counter() - began


@contextmanager
def _known_warnings() -> Iterator[None]:
    """Silence Lightning's and TensorBoard's messages about what a recipe asks for."""
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    with warnings.catch_warnings():
        # Zero workers is right for images in memory; the recipe decides.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # TensorBoard's and Lightning's own use of old names.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


_CHATTY = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
