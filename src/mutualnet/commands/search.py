"""`mutualnet search`: sub-networks off the uniform grid, found and put into a run's table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mutualnet.budget import parse_budget
from mutualnet.commands.more_rows import formats_of, measure_rows, table_of
from mutualnet.commands.table import save_frontier
from mutualnet.console import make_console
from mutualnet.cpu import prepare_cpu
from mutualnet.report import print_table
from mutualnet.run_directory import load_run, save_table
from mutualnet.search import Evaluation, best_finds, search_subnets, with_finds
from mutualnet.table import QueryTable
from mutualnet.training import load_run_data, plain_task

STATE = "search.json"
"""What a search has tried, in the run's directory: an interrupted one goes on from there."""
_NUM_BUDGETS = 4
"""Of an evolutionary search that is given none."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What is searched, and how much."""

    method: Literal["greedy", "evolutionary"] = "greedy"
    by: Literal["stage", "group"] = "stage"
    budgets: tuple[str, ...] = ()
    """Of multiply-adds, such as 150M."""
    evaluations: int = 200
    """Networks that may be tried."""
    num_widths: int = 7
    """Widths between the ends of the space, with both."""
    num_images: int = 1000
    """Select images behind the score of a try, of all at most."""
    num_calibration_samples: int = 256
    """Train images behind the BN statistics of a try."""
    most_finds: int = 16
    """Sub-networks that are scored in full at the end."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_widths < 2:
            raise ValueError(
                f"--widths must be >= 2, both ends of the space, got {self.num_widths}"
            )
        for name in ("num_images", "most_finds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


def search(
    path: Path, options: SearchOptions, *, data: str | None = None, trust: bool = False
) -> QueryTable:
    """Search a run's network and add what beats its table to it.

    Args:
        path: Directory of the run; it needs a table.
        options: What is searched.
        data: Folder of the images, where they are elsewhere now than when it was trained.
        trust: As for `load_run`.

    Raises:
        ValueError: If the run has no table, the data are others, or a budget is none of
            multiply-adds.
    """
    prepare_cpu()
    run, console = load_run(path, trust=trust), make_console()
    table, supernet = table_of(run), run.supernet
    run_data = load_run_data(run, data)
    macs = _budgets(options, table)
    made_in = formats_of(table).scoring
    made_in.arrange(supernet.model)
    num_images = min(options.num_images, len(run_data.splits.select))
    state = _State(path / STATE, _settings(options, run.supernet.weights_hash(), str(made_in)))
    try:
        result = search_subnets(
            supernet,
            task=plain_task(run_data.recipe),
            train_batches=run_data.calibration(options.num_calibration_samples),
            select_batches=run_data.select_part(0, num_images),
            method=options.method,
            by=options.by,
            num_widths=options.num_widths,
            budgets=macs,
            evaluations=options.evaluations,
            seed=options.seed,
            num_calibration_samples=options.num_calibration_samples,
            autocast=made_in.autocast,
            known=state.known,
            save=state.save,
        )
    except KeyboardInterrupt as error:
        error.add_note(f"What was tried is in {state.path}; the same command goes on from there.")
        raise
    about = {
        "by": options.by,
        "evaluations": len(result.evaluations),
        "images": num_images,
        "calibration_images": options.num_calibration_samples,
        "seed": options.seed,
    }
    console.print(
        f"{options.method} search: {len(result.evaluations)} sub-networks tried, each on "
        f"{num_images} images of {table.select_split}"
    )
    chosen = best_finds(supernet, result.evaluations, table, options.most_finds)
    found = measure_rows(run, run_data, chosen, console) if chosen else None
    new = with_finds(table, found, options.method, about | {"finished": len(chosen)})
    save_table(run, new)
    save_frontier(run, new)
    print_table(new, console)
    added = len(new.rows) - len(table.rows)
    console.print(
        f"{len(chosen)} finds scored in full, {added} of them beat the table and are in it now"
    )
    return new


def _budgets(options: SearchOptions, table: QueryTable) -> list[float]:
    """Multiply-adds; for an evolutionary search without any, even ratios along the front."""
    found = []
    for text in options.budgets:
        budget = parse_budget(text)
        if budget.macs is None:
            raise ValueError(f"a search takes budgets of multiply-adds, such as 150M, got {text!r}")
        found.append(budget.macs)
    if found or options.method == "greedy":
        return found
    front = table.front()
    low, high = front[0].macs, front[-1].macs
    levels = np.geomspace(low, high, _NUM_BUDGETS + 2)[1:-1]
    # Rounding may end below what a front of one row costs.
    return sorted({float(min(max(level, low), high)) for level in levels})


def _settings(options: SearchOptions, weights_hash: str, made_in: str) -> dict[str, Any]:
    """What the score of a try depends on; others can be read from a search with the same."""
    return {
        "weights": weights_hash,
        "format": made_in,
        "images": options.num_images,
        "calibration_images": options.num_calibration_samples,
    }


class _State:
    """Everything tried with the same weights and images, on the disk."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self._settings = path, settings
        self.known: tuple[Evaluation, ...] = ()
        try:
            content = json.loads(path.read_text())
            if content["settings"] == settings:
                self.known = tuple(Evaluation.from_dict(found) for found in content["tried"])
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is damaged ({error}). Remove it.") from None

    def save(self, tried: Sequence[Evaluation]) -> None:
        both: Iterable[Evaluation] = {e.subnet: e for e in (*self.known, *tried)}.values()
        content = {"settings": self._settings, "tried": [found.to_dict() for found in both]}
        partial = self.path.with_name(f"{self.path.name}.partial")
        partial.write_text(json.dumps(content, indent=1) + "\n")
        partial.replace(self.path)
