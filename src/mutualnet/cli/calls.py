"""From a command's words to the function that does it.

Functions are imported late: `mutualnet --help` must neither wait for PyTorch nor need it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable


def _demo(words: argparse.Namespace) -> None:
    from mutualnet.commands import demo

    demo(words.out)


def _recipes(words: argparse.Namespace) -> None:
    from mutualnet.commands import list_recipes

    list_recipes()


def _train(words: argparse.Namespace) -> None:
    from mutualnet.commands import start_training
    from mutualnet.config import RecipeChanges

    changes = RecipeChanges(
        data=words.data,
        epochs=words.epochs,
        seed=words.seed,
        method=words.method,
        teaching=words.teaching,
        optimizer=words.optimizer,
        lr=words.lr,
        model=words.model,
        width_range=None if words.width_range is None else tuple(words.width_range),
        resolutions=None if words.resolutions is None else tuple(words.resolutions),
        settings=[*_shorthands(words), *words.settings],
    )
    start_training(
        words.recipe,
        changes,
        out=words.out,
        limit_steps=words.limit_steps,
        is_dry_run=words.dry_run,
        resume=words.resume,
        trust=words.trust,
    )


def _table(words: argparse.Namespace) -> None:
    from mutualnet.commands import make_table

    make_table(words.run, data=words.data, is_full=words.full, trust=words.trust)


def _predict(words: argparse.Namespace) -> None:
    from mutualnet.commands import predict

    predict(words.run, words.images, budget=words.budget, output=words.output, trust=words.trust)


def _plan(words: argparse.Namespace) -> None:
    from mutualnet.commands import plan

    plan(
        words.model,
        budgets=words.budgets,
        resolutions=tuple(words.resolutions),
        num_classes=words.num_classes,
    )


def _info(words: argparse.Namespace) -> None:
    from mutualnet.commands import info

    info(
        words.model,
        width_range=tuple(words.width_range),
        resolutions=tuple(words.resolutions),
        num_classes=words.num_classes,
        frames=words.frames,
    )


def _shorthands(words: argparse.Namespace) -> list[str]:
    """Options that are short for single values of the recipe."""
    settings = []
    for key, value in (
        ("model.init", words.init),
        ("model.sort_channels", words.sort_channels),
        ("teacher.name", words.teacher),
        ("data.batch_size", words.batch_size),
        ("data.num_workers", words.workers),
    ):
        if value is not None:
            settings.append(f"{key}={json.dumps(value)}")
    if words.distill is not None:
        settings.append(f"method.distill={'true' if words.distill == 'on' else 'false'}")
    return settings


CALLS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": _demo,
    "recipes": _recipes,
    "train": _train,
    "table": _table,
    "predict": _predict,
    "plan": _plan,
    "info": _info,
}
"""What each command runs."""
