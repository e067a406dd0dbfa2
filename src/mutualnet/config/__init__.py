"""A recipe: everything that decides a training run.

`recipe` and the files of its fields have the typed values, `building` and `serialization` read and
write them, `transforms` and `changes` change them.
"""

from __future__ import annotations

from mutualnet.config.changes import RecipeChanges
from mutualnet.config.clips import ClipConfig
from mutualnet.config.data import DataConfig
from mutualnet.config.measurement import TableConfig, WatchConfig
from mutualnet.config.method import MethodConfig
from mutualnet.config.model import ModelConfig
from mutualnet.config.optimizer import OptimizerConfig
from mutualnet.config.plain_yaml import read_yaml
from mutualnet.config.recipe import ComputeConfig, Recipe
from mutualnet.config.serialization import override, read_recipe, recipe_values, write_recipe
from mutualnet.config.teaching import PeerConfig, TeachingConfig
from mutualnet.config.transforms import (
    with_epochs,
    with_lr,
    with_method,
    with_model,
    with_optimizer,
    with_teaching,
)

__all__ = [
    "ClipConfig",
    "ComputeConfig",
    "DataConfig",
    "MethodConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PeerConfig",
    "Recipe",
    "RecipeChanges",
    "TableConfig",
    "TeachingConfig",
    "WatchConfig",
    "override",
    "read_recipe",
    "read_yaml",
    "recipe_values",
    "with_epochs",
    "with_lr",
    "with_method",
    "with_model",
    "with_optimizer",
    "with_teaching",
    "write_recipe",
]
