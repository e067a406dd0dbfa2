"""What each command of `mutualnet` does; the words of the command line are in `cli.py`."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table as RichTable

from mutualnet.budget import Budget, parse_budget
from mutualnet.config import Recipe, override
from mutualnet.cost import CostModel
from mutualnet.data import photo_transform
from mutualnet.evaluate import build_table
from mutualnet.host import flush_denormals, tune_allocator
from mutualnet.models import create_model
from mutualnet.recipes import RECIPES, load_recipe
from mutualnet.report import plot_frontier, print_table
from mutualnet.runs import PLOT, Run, load_run, save_table
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable, Row
from mutualnet.tasks.classification import Classification
from mutualnet.train import dry_run, load_splits, make_loader, train

__all__ = ["demo", "info", "list_recipes", "make_table", "predict", "start_training"]

logger = logging.getLogger(__name__)

_DEMO_MARK = ".mutualnet-demo"
_IMAGE_SHOWN = 3


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def list_recipes() -> None:
    """Print every recipe with its line."""
    table = RichTable("recipe", "what it trains", box=None, header_style="bold")
    for name, function in RECIPES.items():
        table.add_row(name, function().description)
    _console().print(table)


def start_training(
    recipe: str,
    *,
    out: Path | None,
    data: str | None,
    epochs: int | None,
    seed: int | None,
    limit_steps: int | None,
    settings: Sequence[str],
    is_dry_run: bool,
) -> None:
    """Train by a recipe, or tell what that would take."""
    flush_denormals()
    tune_allocator()
    chosen = override(load_recipe(recipe), settings) if settings else load_recipe(recipe)
    if data is not None:
        chosen = replace(chosen, data=replace(chosen.data, path=data))
    if epochs is not None:
        warmup = min(chosen.optimizer.warmup_epochs, epochs)
        optimizer = replace(chosen.optimizer, epochs=epochs, warmup_epochs=warmup)
        chosen = replace(chosen, optimizer=optimizer)
    if seed is not None:
        chosen = replace(chosen, seed=seed)
    if is_dry_run:
        _print_dry_run(chosen)
        return
    place = out or Path("runs") / f"{chosen.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    console = _console()
    train(chosen, place, limit_steps=limit_steps, progress=console.is_terminal)
    console.print(f"trained: {place}\nnext: mutualnet table {place}")


def _print_dry_run(recipe: Recipe) -> None:
    found = dry_run(recipe)
    hours, rest = divmod(round(found.seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    _console().print(
        f"{recipe.name}: {found.seconds_per_step:.3f} s per step ({found.form}), "
        f"{found.num_steps} steps, {hours} h {minutes} min {seconds} s to the end; "
        f"peak memory so far {found.peak_memory_mib:.0f} MiB; disk {found.disk_mib:.1f} MiB. "
        "Nothing was written."
    )


def make_table(path: Path) -> QueryTable:
    """Make the query table of a run, its BN bank and its picture."""
    flush_denormals()
    tune_allocator()
    run, console = load_run(path), _console()
    recipe = run.recipe
    data = load_splits(recipe)
    if data.data_id != run.info["data_id"]:
        raise ValueError(
            f"{recipe.data.path} must hold the data that {path} was trained on, got others: the "
            "splits differ, so that test images may have been trained on."
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    run.supernet.to(device)
    table = build_table(
        run.supernet,
        task=Classification(),
        train_batches=make_loader(data.calibration, recipe, shuffle=True, purpose=1),
        select_batches=make_loader(data.select, recipe, shuffle=False, purpose=2),
        test_batches=make_loader(data.test, recipe, shuffle=False, purpose=3),
        data_id=data.data_id,
        num_calibration_samples=recipe.table.num_calibration_samples,
        latency_runs=recipe.table.latency_runs,
        progress=lambda line: console.print(f"{line} ..."),
    )
    save_table(run, table)
    picture = path / PLOT
    model = recipe.model.name.rpartition(":")[2]
    plot_frontier(table, picture, title=f"{model} on {recipe.data.name}: one network, every budget")
    print_table(table, console)
    console.print(f"table: {path / 'table.json'}\nplot: {picture}")
    return table


def predict(path: Path, images: Sequence[Path], *, budget: str | None) -> None:
    """Classify images with the best sub-network within a budget."""
    limit = parse_budget(budget) if budget is not None else None
    for image in images:
        if not image.is_file():
            raise ValueError(f"no image file {image}")
    flush_denormals()
    run = load_run(path)
    row = _choose(run, limit)
    console = _console()
    console.print(_describe(row, limit))
    module = run.supernet.extract(row.subnet).eval()
    top = run.recipe.space.resolutions[0]
    transform = photo_transform(run.recipe.data.name, top)
    for image in images:
        pixels = transform(_open(image))[None]
        _print_classes(console, str(image), run, module, pixels, row.subnet)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except Exception as error:  # Pillow's decoders raise anything on a broken file
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{path} must be an image that can be read, got {reason[0]}") from None


def _choose(run: Run, limit: Budget | None) -> Row:
    if run.table is None:
        raise ValueError(f"{run.path} has no query table yet. Make it: mutualnet table {run.path}")
    if limit is None:
        return max(run.table.rows, key=lambda row: row.score)
    return run.table.best(macs=limit.macs, latency_ms=limit.latency_ms)


def _describe(row: Row, limit: Budget | None) -> str:
    cost = f"{row.macs / 1e6:.4g} M multiply-adds"
    if row.latency_ms is not None:
        cost += f", {row.latency_ms:.3g} ms"
    asked = f"within {limit}" if limit is not None else "best of all"
    return f"{asked}: sub-network {row.subnet}, {cost}, score {row.score:.1f}"


def _print_classes(
    console: Console,
    name: str,
    run: Run,
    module: torch.nn.Module,
    pixels: torch.Tensor,
    subnet: Subnet,
) -> None:
    task = Classification()
    batch = task.scale((pixels, torch.zeros(1, dtype=torch.long)), subnet)
    with torch.inference_mode():
        shares = module(task.inputs(batch)).softmax(1)[0]
    best = shares.topk(min(_IMAGE_SHOWN, len(shares)))
    names = run.info["class_names"]
    classes = ", ".join(
        f"{names[int(i)]} {100 * float(p):.1f} %"
        for p, i in zip(best.values, best.indices, strict=True)
    )
    console.print(f"  {name}: {classes}")


def info(
    model: str,
    *,
    width_range: tuple[float, float],
    resolutions: tuple[int, ...],
    num_classes: int,
) -> None:
    """Print what of a model is elastic, what is frozen and why, and what the grid costs."""
    flush_denormals()
    space = ElasticSpace(width_range=width_range, resolutions=resolutions)
    supernet = Supernet(create_model(model, num_classes=num_classes), space)
    costs, console = CostModel(supernet), _console()
    console.print(supernet.report(), markup=False)
    largest = costs.params(space.largest)
    smallest = costs.params(Subnet(width_mult=space.width_range[0], resolution=resolutions[0]))
    console.print(
        f"parameters: {largest / 1e6:.4g} M at the largest width, {smallest / 1e6:.4g} M at the "
        f"smallest: {100 * (1 - smallest / largest):.0f} % are elastic"
    )
    columns = ["width", "M params", *(f"{side} px" for side in space.resolutions)]
    table = RichTable(*columns, title="millions of multiply-adds", title_justify="left")
    for width in space.grid_widths():
        cells = [
            f"{costs.macs(Subnet(width_mult=width, resolution=side)) / 1e6:.2f}"
            for side in space.resolutions
        ]
        table.add_row(f"{width:g}", f"{costs.params(Subnet(width_mult=width)) / 1e6:.3f}", *cells)
    console.print(table)


def demo(out: Path) -> None:
    """Train on the embedded digits, make the table, and predict under three budgets."""
    console = _console()
    if out.exists():
        if not (out / _DEMO_MARK).is_file():
            raise ValueError(
                f"{out} must be free or hold an earlier demo, got something else. Choose --out."
            )
        shutil.rmtree(out)
    console.print("training one network for every width from 0.25 to 1 and four resolutions ...")
    start_training(
        "digits_demo",
        out=out,
        data=None,
        epochs=None,
        seed=None,
        limit_steps=None,
        settings=(),
        is_dry_run=False,
    )
    (out / _DEMO_MARK).touch()
    table = make_table(out)
    images = _write_test_images(out)
    front = table.front()
    for row in (front[0], front[len(front) // 2], front[-1]):
        predict(out, images, budget=_budget_above(row.macs))
    console.print(f"plot: {out / PLOT}")


def _budget_above(macs: int) -> str:
    """The next budget with two digits."""
    millions = macs / 1e6
    unit = 10 ** (math.floor(math.log10(millions)) - 1)
    return f"{math.ceil(millions / unit) * unit:.4g}M"


def _write_test_images(out: Path) -> list[Path]:
    """Save three test digits as image files, as a user would have them."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    digits = load_digits()
    recipe = load_recipe("digits_demo")
    positions = load_splits(recipe).test.positions  # type: ignore[attr-defined]
    folder = out / "images"
    folder.mkdir()
    paths = []
    for position in positions[:3].tolist():
        path = folder / f"a_{digits.target[position]}.png"
        Image.fromarray((digits.images[position] * (255 / 16)).astype("uint8")).save(path)
        paths.append(path)
    return paths
