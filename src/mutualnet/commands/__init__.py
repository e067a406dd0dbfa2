"""The commands that need PyTorch; the words they are called by are in `cli`."""

from __future__ import annotations

import torch  # noqa: F401 - first, so that whoever lacks the extra `train` is told of that one

from mutualnet.commands.demo import demo
from mutualnet.commands.export import export
from mutualnet.commands.info import info
from mutualnet.commands.more_rows import add_rows
from mutualnet.commands.plan import plan
from mutualnet.commands.predict import predict
from mutualnet.commands.recipes import list_recipes
from mutualnet.commands.report import report
from mutualnet.commands.search import SearchOptions, search
from mutualnet.commands.table import make_table
from mutualnet.commands.train import start_training

__all__ = [
    "SearchOptions",
    "add_rows",
    "demo",
    "export",
    "info",
    "list_recipes",
    "make_table",
    "plan",
    "predict",
    "report",
    "search",
    "start_training",
]
