"""`mutualnet train`: train by a recipe, or tell what that would take."""

from __future__ import annotations

import time
from pathlib import Path

from mutualnet.config import Recipe, RecipeChanges
from mutualnet.console import make_console
from mutualnet.cpu import prepare_cpu
from mutualnet.distributed import current_ranks, process_group
from mutualnet.image_paths import as_typed
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import networks_of
from mutualnet.training import describe_scores, dry_run, train
from mutualnet.trust import needs_trust


def start_training(
    recipe: str,
    changes: RecipeChanges | None = None,
    *,
    out: Path | None = None,
    limit_steps: int | None = None,
    is_dry_run: bool = False,
    resume: bool = False,
    trust: bool = False,
) -> None:
    """Train by a recipe, or tell what that would take.

    Args:
        recipe: Its name, file or function.
        changes: What differs from the recipe.
        out: Directory of the run, by default one named for recipe and time.
        limit_steps: Most steps.
        is_dry_run: Write nothing, tell what it would take.
        resume: Go on with the unfinished run of `out`.
        trust: As for `train`.
    """
    prepare_cpu()
    chosen = (changes or RecipeChanges()).apply(load_recipe(recipe))
    if resume and out is None:
        raise ValueError("--resume needs the --out of the run to resume")
    with process_group() as ranks:
        if is_dry_run:
            _print_dry_run(chosen, limit_steps, trust)
            return
        place = out or Path("runs") / f"{chosen.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        train(
            chosen,
            place,
            limit_steps=limit_steps,
            resume=resume,
            progress=make_console().is_terminal,
            trust=trust,
        )
        if ranks.is_first:
            _print_trained(place, chosen)


def _print_trained(place: Path, recipe: Recipe) -> None:
    console, trust = make_console(), " --trust" * needs_trust(recipe)
    console.print(f"trained: {place}")
    for path in networks_of(place):
        for line in describe_scores(path):
            console.print(line)
        console.print(f"next: mutualnet table {as_typed(path)}{trust}")


def _print_dry_run(recipe: Recipe, limit_steps: int | None, trust: bool) -> None:
    found = dry_run(recipe, limit_steps=limit_steps, trust=trust)
    if not current_ranks().is_first:
        return
    hours, rest = divmod(round(found.seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    make_console().print(
        f"{recipe.name}: {found.seconds_per_step:.3f} s per step ({found.compute_format}), "
        f"{found.num_steps} steps, {hours} h {minutes} min {seconds} s to the end; "
        f"peak memory so far {found.peak_memory_mib:.0f} MiB; disk {found.disk_mib:.1f} MiB. "
        "Nothing was written."
    )
