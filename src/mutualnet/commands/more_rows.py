"""`mutualnet table RUN --add`: sub-networks of one's own choice in a run's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from mutualnet.commands.table import save_frontier
from mutualnet.config import read_yaml
from mutualnet.console import make_console
from mutualnet.cpu import prepare_cpu
from mutualnet.distributed import training_device
from mutualnet.image_paths import as_typed
from mutualnet.precision import ComputeFormat
from mutualnet.prediction import table_format
from mutualnet.progress import WorkProgress
from mutualnet.report import print_rows, print_table
from mutualnet.run_directory import Run, load_run, save_table
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable
from mutualnet.tabulation import build_table, check_same_machine, with_rows
from mutualnet.training import RunData, TableFormats, load_run_data

_EXAMPLE = "{width_mult: 0.5, resolution: 24}"


def add_rows(
    path: Path, texts: Sequence[str], *, data: str | None = None, trust: bool = False
) -> QueryTable:
    """Score and time sub-networks, and put them into a run's table, whatever their scores.

    Args:
        path: Directory of the run; it needs a table.
        texts: Sub-networks as `read_subnet` takes them.
        data: Folder of the images, where they are elsewhere now than when it was trained.
        trust: As for `load_run`.

    Raises:
        ValueError: If the run has no table, a text names no sub-network of its space, or the data
            are others.
    """
    prepare_cpu()
    run, console = load_run(path, trust=trust), make_console()
    table = table_of(run)
    asked = run.supernet.distinct(read_subnet(text, run.supernet) for text in texts)
    known = {run.supernet.key(row.subnet): row.subnet for row in table.finished}
    for key in asked:
        if key in known:
            console.print(f"{known[key]} is in the table already")
    new = [subnet for key, subnet in asked.items() if key not in known]
    if not new:
        return table
    found = measure_rows(run, load_run_data(run, data), new, console)
    grid = {row.subnet for row in table.rows if row.found_by is None}  # dropped ones are finished
    rows = [r if r.subnet in grid else replace(r, found_by="hand") for r in found.rows]
    table = with_rows(table, rows, found)
    save_table(run, table)
    save_frontier(run, table)
    print_table(table, console)
    console.print("added:")
    print_rows(table, [row for row in table.rows if row.subnet in new], console)
    return table


def read_subnet(text: str, supernet: Supernet) -> Subnet:
    """A sub-network from YAML: fields of `Subnet`, or `stage_widths`, one width for each stage.

    What is not said is as in the largest sub-network.

    Raises:
        ValueError: If it is none of the network's space.
    """
    value = read_yaml(text)
    if not isinstance(value, dict):
        raise ValueError(f"a sub-network must be a mapping such as {_EXAMPLE}, got {text!r:.80}")
    try:
        stages = value.pop("stage_widths", None)
        if stages is not None:
            if "group_widths" in value:
                raise ValueError("either stage_widths or group_widths, not both")
            value["group_widths"] = supernet.stage_widths(stages)
        subnet = Subnet.from_dict({**supernet.space.largest.to_dict(), **value})
        supernet.space.check(subnet)
        supernet.key(subnet)  # finds names of groups that match nothing
    except (TypeError, AttributeError) as error:  # of a field
        raise ValueError(f"{text} is no sub-network such as {_EXAMPLE}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None
    return subnet


def table_of(run: Run) -> QueryTable:
    """A run's table, to which rows can be added here.

    Raises:
        ValueError: If there is none, or it was made on another machine.
    """
    if run.table is None:
        raise ValueError(
            f"{run.path} has no table to add to yet. Make it: mutualnet table {as_typed(run.path)}"
        )
    run.supernet.to(training_device())
    check_same_machine(run.table, run.supernet)
    return run.table


def formats_of(table: QueryTable) -> TableFormats:
    """What a table was made in."""
    running = table_format(table)
    scoring = ComputeFormat.parse(table.meta.get("scoring_format", str(running)))
    return TableFormats(scoring, running)


def measure_rows(
    run: Run, run_data: RunData, subnets: Sequence[Subnet], console: Console
) -> QueryTable:
    """Calibrate, score, test and time sub-networks as the rows of the run's table are."""
    assert run.table is not None  # `table_of` has seen it
    formats = formats_of(run.table)
    formats.scoring.arrange(run.supernet.model)
    with WorkProgress(console.print, console) as work:
        return build_table(run.supernet, run_data.table_inputs(formats, work, subnets=subnets))
