"""What a training step of each run takes, measured in one sitting."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.study_store import Store, write_json
from benchmarks.study_train import begin, machine_name
from benchmarks.study_values import StudyRun
from mutualnet.training import dry_run

STEPS = 41
"""Widths and resolutions are drawn anew in each; the first is not timed."""


def times_path(store: Store) -> Path:
    """File of a scale's times."""
    return store.folder / "times.json"


def read_times(store: Store) -> dict[str, Any]:
    """The machine, and seconds of a step by the run's key; none before they were measured."""
    path = times_path(store)
    return json.loads(path.read_text()) if path.exists() else {"seconds_per_step": {}}


def measure_times(runs: Iterable[StudyRun], store: Store, *, data: Path) -> None:
    """Time some steps of every run, data loading included; each time is written at once.

    Times of an earlier sitting are dropped: only those of one machine can be compared.

    Args:
        runs: Those that start from a run, or learn from one, do so from an untrained one, which
            takes as long.
        store: Keeps the times.
        data: Holds a folder for each data set, by its name.
    """
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            recipe = begin(_untrained(run), 0, folder=Path(folder), data=data)
            seconds[run.key()] = round(dry_run(recipe, steps=STEPS).seconds_per_step, 4)
            write_json(
                times_path(store),
                {
                    "scale": store.scale,
                    "machine": machine_name(),
                    "threads": torch.get_num_threads(),
                    "torch": torch.__version__,
                    "steps": STEPS - 1,
                    "seconds_per_step": seconds,
                },
            )


def _untrained(run: StudyRun) -> StudyRun:
    """The same run, from runs that were not trained."""
    init, teacher = (
        None if earlier is None else replace(_untrained(earlier), limit_steps=0)
        for earlier in (run.init, run.teacher)
    )
    return replace(run, init=init, teacher=teacher)
