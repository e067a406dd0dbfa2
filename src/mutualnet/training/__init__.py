"""A training run by a recipe: Lightning around the step functions.

Read `train` first, then `setup`, `networks`, `module` and `learning`.
"""

from __future__ import annotations

from mutualnet.training.autotune import TableFormats, table_formats
from mutualnet.training.dry_run import dry_run
from mutualnet.training.epoch_log import read_epoch_log
from mutualnet.training.finish import describe_scores
from mutualnet.training.module import TrainingModule
from mutualnet.training.run_data import RunData, load_run_data
from mutualnet.training.setup import load_splits, plain_task, set_up_training
from mutualnet.training.train import train

__all__ = [
    "RunData",
    "TableFormats",
    "TrainingModule",
    "describe_scores",
    "dry_run",
    "load_run_data",
    "load_splits",
    "plain_task",
    "read_epoch_log",
    "set_up_training",
    "table_formats",
    "train",
]
