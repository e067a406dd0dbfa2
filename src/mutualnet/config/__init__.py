"""A recipe: everything that decides a training run.

`recipe` has the typed values, `serialization` reads and writes them, `transforms` changes them.
"""

from __future__ import annotations

from mutualnet.config.changes import RecipeChanges
from mutualnet.config.recipe import (
    ComputeConfig,
    DataConfig,
    MethodConfig,
    ModelConfig,
    OptimizerConfig,
    PeerConfig,
    Recipe,
    TableConfig,
    TeachingConfig,
)
from mutualnet.config.serialization import override, read_recipe, recipe_values, write_recipe
from mutualnet.config.transforms import with_epochs, with_lr, with_method, with_model, with_teaching

__all__ = [
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
    "override",
    "read_recipe",
    "recipe_values",
    "with_epochs",
    "with_lr",
    "with_method",
    "with_model",
    "with_teaching",
    "write_recipe",
]
