"""From a command's words to the function that does it.

Functions are imported late: `mutualnet --help` must neither wait for PyTorch nor need it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path


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
        depths=None if words.depths is None else tuple(words.depths),
        frames=None if words.frames is None else tuple(words.frames),
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
    from mutualnet.commands import add_rows, make_table

    if words.add:
        if words.full:
            raise ValueError("either --add, which keeps the table's rows, or --full, not both")
        add_rows(words.run, words.add, data=words.data, trust=words.trust)
        return
    make_table(words.run, data=words.data, is_full=words.full, trust=words.trust)


def _search(words: argparse.Namespace) -> None:
    from mutualnet.commands import SearchOptions, search

    options = SearchOptions(
        method=words.method,
        by=words.by,
        budgets=tuple(words.budgets),
        evaluations=words.evaluations,
        num_widths=words.widths,
        num_images=words.images,
        seed=words.seed,
    )
    search(words.run, options, data=words.data, trust=words.trust)


def _predict(words: argparse.Namespace) -> None:
    from mutualnet.commands import predict

    predict(
        words.run,
        words.images,
        budget=words.budget,
        output=words.output,
        out=words.out,
        trust=words.trust,
    )


def _report(words: argparse.Namespace) -> None:
    from mutualnet.commands import report

    report(words.run, words.out)


def _export(words: argparse.Namespace) -> None:
    from mutualnet.commands import export

    export(
        words.run,
        words.out,
        configurations=words.configs,
        kind=words.format,
        data=words.data,
        is_measured=words.measure,
        int8=words.int8,
        private_key=words.sign,
        trust=words.trust,
    )


def _run(words: argparse.Namespace) -> None:
    from mutualnet.device_commands import run

    run(
        words.artifact,
        words.images,
        budget=words.budget,
        threads=words.threads,
        output=words.output,
        public_key=words.public_key,
    )


def _measure(words: argparse.Namespace) -> None:
    from mutualnet.device_commands import time_artifact

    time_artifact(words.artifact, threads=words.threads, batch_size=words.batch, runs=words.runs)


def _evaluate(words: argparse.Namespace) -> None:
    from mutualnet.device_commands import evaluate

    evaluate(
        words.artifact,
        words.data,
        budget=words.budget,
        configurations=words.configs,
        threads=words.threads,
        as_json=words.json,
        public_key=words.public_key,
    )


def _plan(words: argparse.Namespace) -> None:
    from mutualnet.commands import plan

    plan(
        words.model,
        budgets=words.budgets,
        resolutions=tuple(words.resolutions),
        num_classes=words.num_classes,
    )


def _info(words: argparse.Namespace) -> None:
    if words.model.endswith(".mutualnet") or Path(words.model, "manifest.json").is_file():
        from mutualnet.device_commands import describe_artifact

        describe_artifact(Path(words.model))
        return
    from mutualnet.commands import info

    info(
        words.model,
        width_range=tuple(words.width_range),
        resolutions=tuple(words.resolutions),
        num_classes=words.num_classes,
        depths=tuple(words.depths),
        frames=None if words.frames is None else tuple(words.frames),
    )


def _shorthands(words: argparse.Namespace) -> list[str]:
    """Options that are short for single values of the recipe."""
    import yaml

    settings = []
    for key, value in (
        ("model.init", words.init),
        ("model.sort_channels", words.sort_channels),
        ("teacher.name", words.teacher),
        ("data.batch_size", words.batch_size),
        ("data.num_workers", words.workers),
    ):
        if value is not None:
            # Not JSON, whose two escapes of one rare sign are two signs to YAML.
            quotes = '"' if isinstance(value, str) else None
            text = yaml.safe_dump([value], default_style=quotes, width=math.inf)
            settings.append(f"{key}={text.strip().removeprefix('- ')}")
    if words.distill is not None:
        settings.append(f"method.distill={'true' if words.distill == 'on' else 'false'}")
    return settings


CALLS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": _demo,
    "recipes": _recipes,
    "train": _train,
    "table": _table,
    "search": _search,
    "predict": _predict,
    "report": _report,
    "export": _export,
    "run": _run,
    "measure": _measure,
    "evaluate": _evaluate,
    "plan": _plan,
    "info": _info,
}
"""What each command runs."""
