"""`mutualnet table`: every sub-network of a run scored and timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile

from mutualnet.console import make_console
from mutualnet.cpu import prepare_cpu
from mutualnet.data import first_batch
from mutualnet.distributed import current_ranks, from_first, process_group, training_device
from mutualnet.precision import PLAIN, ComputeFormat
from mutualnet.progress import WorkProgress
from mutualnet.report import plot_frontier, print_table
from mutualnet.run_directory import Run, load_run, save_plot, save_table
from mutualnet.table import QueryTable
from mutualnet.tabulation import build_table, race_table
from mutualnet.training import RunData, TableFormats, load_run_data, plain_task, table_formats

_PROBE_IMAGES = 64
"""In the batch that number formats are timed on, at most."""


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
    prepare_cpu()
    with process_group():
        return _make_table(path, data, is_full, trust)


def _make_table(path: Path, folder: str | None, is_full: bool, trust: bool) -> QueryTable:
    run = load_run(path, trust=trust, with_table=False)
    console, ranks = make_console(), current_ranks()
    problem = from_first(_why_not_writable(path) if ranks.is_first else None)
    if problem is not None:
        raise ValueError(
            f"the table is written into {path}, which must be writable, got {problem}. Copy the "
            "run to a folder of yours."
        )
    data = load_run_data(run, folder)
    run.supernet.to(training_device())
    formats = TableFormats(PLAIN, PLAIN) if is_full else _formats(run, data)
    with WorkProgress(
        console.print if ranks.is_first else lambda line: None,
        console if ranks.is_first else None,
    ) as work:
        inputs = data.table_inputs(formats, work)
        whole = _whole_macs(run)
        if whole:
            inputs = replace(inputs, meta={**inputs.meta, "whole_macs": whole})
        if is_full:
            table = build_table(run.supernet, inputs)
        else:
            table = race_table(
                run.supernet,
                inputs,
                select_part=data.select_part,
                num_select=len(data.splits.select),
            )
    if not ranks.is_first:
        return table
    print_table(table, console)  # first, since a disk may be full by now
    save_table(run, table)
    picture = save_frontier(run, table)
    if whole:
        parts = f"{whole['smallest']['total'] / 1e9:.4g} to {whole['largest']['total'] / 1e9:.4g}"
        console.print(
            f"the whole network: {parts} G multiply-adds for a photo; the table counts "
            f"{run.supernet.counted_part} on a square"
        )
    console.print(f"table: {path / 'table.json'}\nplot: {picture}")
    return table


def _why_not_writable(folder: Path) -> str | None:
    """Why no file can be written into a folder; None if one can."""
    try:
        with TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def save_frontier(run: Run, table: QueryTable) -> Path:
    """Draw a table of a run into its picture, and return that one's place."""
    model = run.recipe.model.name.rpartition(":")[2]
    title = f"{model} on {run.recipe.data.name}: one network, every budget"
    return save_plot(run, lambda path: plot_frontier(table, path, title=title))


def _whole_macs(run: Run) -> dict[str, dict[str, int]]:
    """Costs of the ends of the space with all that a table leaves out; empty if that is nothing."""
    task, space = plain_task(run.recipe), run.supernet.space
    ends = {"largest": space.largest, "smallest": space.smallest}
    found = {name: task.whole_macs(run.supernet, subnet) for name, subnet in ends.items()}
    return {name: macs for name, macs in found.items() if macs is not None}


def _formats(run: Run, data: RunData) -> TableFormats:
    """What to score in and what to run in, as this machine is fastest."""
    trained, task = run.info.get("training_format"), plain_task(run.recipe)
    size = min(data.batch_size, _PROBE_IMAGES)
    batch = task.batch_to(first_batch(data.splits.select, size, seed=0), training_device())
    known = PLAIN if trained is None else ComputeFormat.parse(trained)
    is_timed = run.recipe.table.latency_runs > 0
    return from_first(table_formats(run.supernet, known, batch, task=task, one_image=is_timed))
