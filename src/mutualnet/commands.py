"""What each command of `mutualnet` does; the words of the command line are in `cli.py`."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.table import Table as RichTable
from rich.text import Text
from torch.utils.data import DataLoader

from mutualnet.budget import Budget, parse_budget, parse_budgets
from mutualnet.config import Recipe, RecipeChanges
from mutualnet.console import make_console
from mutualnet.cost import CostModel
from mutualnet.cpu import flush_denormals, tune_allocator
from mutualnet.data import calibration_loader, part_loader, plain_loader
from mutualnet.distributed import current_ranks, from_first, process_group, training_device
from mutualnet.html_report import report_page
from mutualnet.image_paths import find_images
from mutualnet.models import create_model
from mutualnet.planning import propose_space
from mutualnet.precision import PLAIN, ComputeFormat
from mutualnet.prediction import Classifier, Output, choose_row, classify, write
from mutualnet.progress import WorkProgress
from mutualnet.recipes import RECIPES, load_recipe
from mutualnet.report import plot_frontier, print_table
from mutualnet.run_directory import (
    PLOT,
    Run,
    load_run,
    logs_of,
    networks_of,
    read_record,
    save_plot,
    save_table,
)
from mutualnet.space import ElasticSpace
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable, Row
from mutualnet.tabulation import TableInputs, build_table, race_table
from mutualnet.training import (
    TableFormats,
    describe_scores,
    dry_run,
    load_splits,
    plain_task,
    read_epoch_log,
    table_formats,
    train,
)

logger = logging.getLogger(__name__)

_DEMO_MARK = ".mutualnet-demo"
_PROBE_IMAGES = 64
"""In the batch that number formats are timed on, at most."""


def list_recipes() -> None:
    """Print every recipe with its line."""
    console, width = make_console(), max(map(len, RECIPES)) + 2
    for name, function in RECIPES.items():
        console.print(Text.assemble((f"{name:<{width}}", "bold"), function().description))


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
    flush_denormals()
    tune_allocator()
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
            _print_trained(place)


def _print_trained(place: Path) -> None:
    console = make_console()
    console.print(f"trained: {place}")
    for path in networks_of(place):
        for line in describe_scores(path):
            console.print(line)
        console.print(f"next: mutualnet table {path}")


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


def make_table(
    path: Path, *, data: str | None = None, is_full: bool = False, trust: bool = False
) -> QueryTable:
    """Make the query table of a run, its BN bank and its picture.

    Args:
        path: Directory of the run.
        data: Folder of the images, where they are elsewhere now than when it was trained.
        is_full: Finish every sub-network of the grid, in the weights' own number format.
        trust: As for `load_run`.
    """
    flush_denormals()
    tune_allocator()
    with process_group():
        return _make_table(path, data, is_full, trust)


def _make_table(path: Path, folder: str | None, is_full: bool, trust: bool) -> QueryTable:
    run, console, ranks = (
        load_run(path, trust=trust, with_table=False),
        make_console(),
        current_ranks(),
    )
    recipe = RecipeChanges(data=folder).apply(run.recipe)
    data = load_splits(recipe)
    if data.data_id != run.info["data_id"]:
        raise ValueError(
            f"{recipe.data.place} must hold the data that {path} was trained on, got others: the "
            "splits differ, so that test images may have been trained on."
        )
    run.supernet.to(training_device())
    size, workers = recipe.table.batch_size or recipe.data.batch_size, recipe.data.num_workers
    calibration = calibration_loader(
        data.calibration,
        size,
        num_samples=recipe.table.num_calibration_samples,
        seed=recipe.seed,
        num_workers=workers,
        rank=ranks.rank,
        num_ranks=ranks.size,
    )
    formats = TableFormats(PLAIN, PLAIN) if is_full else _formats(run, size)

    def part_of_select(start: int, stop: int) -> DataLoader[Any]:
        return part_loader(data.select, size, start, stop, seed=recipe.seed, num_workers=workers)

    with WorkProgress(
        console.print if ranks.is_first else lambda line: None,
        console if ranks.is_first else None,
    ) as work:
        inputs = TableInputs(
            task=plain_task(recipe),
            train_batches=calibration,
            select_batches=plain_loader(data.select, size, num_workers=workers),
            test_batches=(
                None
                if data.selection.kind == "test"
                else plain_loader(data.test, size, num_workers=workers)
            ),
            data_id=data.data_id,
            num_calibration_samples=recipe.table.num_calibration_samples,
            latency_runs=recipe.table.latency_runs,
            scoring=formats.scoring,
            running=formats.running,
            meta={"select": data.selection.to_dict()},
            work=work,
        )
        if is_full:
            table = build_table(run.supernet, inputs)
        else:
            table = race_table(
                run.supernet, inputs, select_part=part_of_select, num_select=len(data.select)
            )
    if not ranks.is_first:
        return table
    save_table(run, table)
    picture = save_frontier(run, table)
    print_table(table, console)
    console.print(f"table: {path / 'table.json'}\nplot: {picture}")
    return table


def save_frontier(run: Run, table: QueryTable) -> Path:
    """Draw a table of a run into its picture, and return that one's place."""
    model = run.recipe.model.name.rpartition(":")[2]
    title = f"{model} on {run.recipe.data.name}: one network, every budget"
    return save_plot(run, lambda path: plot_frontier(table, path, title=title))


def _formats(run: Run, batch_size: int) -> TableFormats:
    """What to score in and what to run in, as this machine is fastest."""
    trained = run.info.get("training_format")
    side, device = run.recipe.space.resolutions[0], training_device()
    shape = (min(batch_size, _PROBE_IMAGES), run.info["in_channels"], side, side)
    known = PLAIN if trained is None else ComputeFormat.parse(trained)
    is_timed = run.recipe.table.latency_runs > 0
    inputs = torch.zeros(shape, device=device)
    return from_first(table_formats(run.supernet, known, inputs, one_image=is_timed))


def report(path: Path, out: Path | None = None) -> None:
    """Write all about a run into one HTML file that any browser shows.

    Args:
        path: The run.
        out: File to write; by default `report.html` in the run.
    """
    record = read_record(path)
    page = report_page(record, read_epoch_log(logs_of(path)))
    place = path / "report.html" if out is None else out
    partial = place.with_name(f".{place.name}.partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(place)
    except OSError as error:
        raise ValueError(
            f"--out must be a file that can be written, got {place} ({error.strerror or error})"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    make_console().print(f"written: {place}")


def predict(
    path: Path,
    images: Sequence[Path | str],
    *,
    budget: str | Sequence[str] | None = None,
    output: Output = "text",
    trust: bool = False,
) -> None:
    """Classify images with the best sub-network within a budget.

    Args:
        path: The run.
        images: Files, folders (with all below), and patterns such as `photos/*.jpg`.
        budget: One, or several that must all hold; none for the best of all.
        output: Lines for people, or one document for programs.
        trust: As for `load_run`.

    Raises:
        ValueError: If nothing meets the budget, or, once all others are classified, if some of the
            images cannot be read. It names them.
    """
    limit = parse_budgets([budget] if isinstance(budget, str) else budget or ())
    flush_denormals()
    run = load_run(path, trust=trust)
    classifier = Classifier(run, choose_row(run, limit))
    paths = list(find_images([str(image) for image in images]))
    predictions = classify(classifier, paths)
    if output == "text":
        console = make_console()
        console.print(_describe(run, classifier.row, limit))
        errors = []
        for found in predictions:
            errors += [] if found.error is None else [found.error]
            for line in found.lines:
                console.print(f"  {found.file}: {line}")
    else:
        errors = write(output, classifier, limit, predictions)
    if errors:
        count = f"{len(errors)} of {len(paths)} images cannot be read: "
        raise ValueError(f"{count if len(paths) > 1 else ''}{'; '.join(errors)}")


def export(
    path: Path,
    out: Path | None = None,
    *,
    configurations: str = "front",
    kind: str | None = None,
    data: str | None = None,
    is_measured: bool = True,
    int8: bool = False,
    private_key: Path | None = None,
    trust: bool = False,
) -> None:
    """Export a run to one file that a device runs at any budget, or one configuration by itself.

    Args:
        path: The run.
        out: File to write; by default named like the run, in the working folder.
        configurations: As for `export_run`.
        kind: As for `export_run`.
        data: As for `export_run`.
        is_measured: Whether to time the artifact's configurations on this machine.
        int8: Add quantised variants of the configurations, and keep those that are worth it.
        private_key: File with an Ed25519 key to sign the artifact by.
        trust: As for `load_run`.
    """
    from mutualnet.device_commands import time_artifact
    from mutualnet.export import SUFFIX, SUFFIXES, export_run, keep_front
    from mutualnet.runtime import Artifact, sign

    flush_denormals()
    if kind is not None and kind not in SUFFIXES:
        raise ValueError(f"--format must be one of {', '.join(SUFFIXES)}, got {kind!r}")
    if int8 and not is_measured:
        raise ValueError(
            "--int8 keeps the variants that are on the front of score over latency, so it must "
            "measure: leave --no-measure out"
        )
    if private_key is not None:
        if kind is not None:
            raise ValueError(f"--sign is for artifacts, got --format {kind}")
        sign(b"", private_key)  # a wrong key is told before anything is exported
    run, console = load_run(path, trust=trust), make_console()
    suffix = SUFFIX if kind is None else SUFFIXES[kind]
    place = out or Path(f"{path.resolve().name}{suffix}")
    export_run(
        run,
        place,
        configurations=configurations,
        kind=kind,
        data=data,
        int8=int8,
        say=console.print,
    )
    console.print(f"written: {place}, {place.stat().st_size / 2**20:.2f} MiB")
    if kind is None and is_measured:
        time_artifact(place)
    if int8:
        keep_front(Artifact.open(place), console.print)
    if private_key is not None:
        Artifact.open(place).signed(private_key)
    if int8 or private_key is not None:
        console.print(f"written: {place}, {place.stat().st_size / 2**20:.2f} MiB")


def _describe(run: Run, row: Row, limit: Budget) -> str:
    assert run.table is not None
    cost = f"{row.macs / 1e6:.4g} M multiply-adds"
    if row.latency_ms is not None:
        cost += f", {row.latency_ms:.3g} ms"
    asked = "best of all" if limit == Budget() else f"within {limit}"
    scores = ", ".join(map(str, run.table.scores(row)))
    return f"{asked}: sub-network {row.subnet}, {cost}, score {scores}"


def info(
    model: str,
    *,
    width_range: tuple[float, float],
    resolutions: tuple[int, ...],
    num_classes: int,
    depths: tuple[float, ...] = (1.0,),
    frames: int | None = None,
) -> None:
    """Print what of a model is elastic, what is frozen and why, and what the grid costs.

    Args:
        model: As for `create_model`, of any kind.
        width_range: Smallest and largest width multiplier.
        resolutions: Sides of the inputs in pixels.
        num_classes: Outputs of the classifier.
        depths: Shares of the residual blocks that run.
        frames: Of a clip, for networks that take (N, 3, T, H, W).
    """
    flush_denormals()
    space = ElasticSpace(width_range=width_range, resolutions=resolutions, depths=depths)
    side = space.resolutions[0]
    clip = None if frames is None else torch.zeros(1, 3, frames, side, side)
    network = create_model(model, num_classes=num_classes, any_kind=True)
    supernet = Supernet(network, space, example_input=clip)
    costs, console = CostModel(supernet), make_console()
    console.print(supernet.report())
    largest = costs.params(space.largest)
    smallest = costs.params(space.smallest)
    console.print(
        f"parameters: {largest / 1e6:.4g} M at the largest width, {smallest / 1e6:.4g} M at the "
        f"smallest: {100 * (1 - smallest / largest):.0f} % are elastic"
    )
    sides = [f"{side} px" for side in space.resolutions]
    columns = ["width", *(["depth"] if len(space.depths) > 1 else []), "M params", *sides]
    table = RichTable(*columns, title="millions of multiply-adds", title_justify="left")
    per_row = len(space.resolutions)
    for row in range(0, len(grid := space.grid()), per_row):
        subnets = grid[row : row + per_row]
        shown = [f"{subnets[0].width_mult:g}"]
        shown += [f"{subnets[0].depth_mult or 1:g}"] if len(space.depths) > 1 else []
        cells = [f"{costs.macs(subnet) / 1e6:.2f}" for subnet in subnets]
        table.add_row(*shown, f"{costs.params(subnets[0]) / 1e6:.3f}", *cells)
    console.print(table)


def plan(model: str, *, budgets: str, resolutions: tuple[int, ...], num_classes: int) -> None:
    """Print which widths and resolutions meet some budgets on this machine."""
    flush_denormals()
    limits = [parse_budget(text.strip()) for text in budgets.split(",") if text.strip()]
    if not limits:
        raise ValueError("--budgets must name at least one, for example 5ms,150M, got none")
    console = make_console()
    console.print("timing narrow networks on this machine ...")
    found = propose_space(
        lambda: create_model(model, num_classes=num_classes), limits, resolutions=resolutions
    )
    table = RichTable("budget", "sub-network", "M multiply-adds", "latency (ms)", box=None)
    for choice in found.choices:
        table.add_row(
            str(choice.budget),
            str(choice.subnet),
            f"{choice.macs / 1e6:.4g}",
            f"{choice.latency_ms:.3g}",
        )
    console.print(table)
    low, high = found.space.width_range
    sides = " ".join(str(side) for side in found.space.resolutions)
    console.print(
        f"proposed: --width-range {low:g} {high:g} --resolutions {sides}\n"
        f"One network trained so runs at {len(found.choices)} of these budgets; latency is that of "
        f"one image at a time, threads: {torch.get_num_threads()}."
    )


def demo(out: Path) -> None:
    """Train on the embedded digits, make the table, and predict under three budgets."""
    console = make_console()
    if out.exists():
        if not (out / _DEMO_MARK).is_file():
            raise ValueError(
                f"{out} must be free or hold an earlier demo, got something else. Choose --out."
            )
        shutil.rmtree(out)
    console.print("training one network for every width from 0.25 to 1 and three resolutions ...")
    start_training("digits_demo", out=out)
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
