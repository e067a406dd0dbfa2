"""What a search gains over the uniform grid, on one small network; writes `search.json`.

`python -m benchmarks.search` trains one network on digits over widths, two depths and three
resolutions, makes its full table, lets each search add to a copy of it, and compares what the
tables pick within budgets. `--page` writes the docs' table from the JSON alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mutualnet.commands import SearchOptions, make_table, search
from mutualnet.config import override
from mutualnet.recipes import load_recipe
from mutualnet.table import QueryTable, Row
from mutualnet.training import train

_RESULT = Path(__file__).with_name("search.json")
_PAGE = Path(__file__).parents[1] / "docs" / "search.md"
_BEGIN, _END = "<!-- measured -->\n", "<!-- end -->\n"
_SETTINGS = (
    "model.kwargs={depth: 16, width_factor: 1}",
    "space.depths=[1, 0.5]",
    "table.latency_runs=0",
    "compute.precision=fp32",
    "compute.memory_format=contiguous",
    "data.num_workers=0",
    "data.label_noise=0.5",
    "data.select_share=0.4",
)
_NUM_BUDGETS = 6


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--page", action="store_true", help="write the page from search.json alone")
    parser.add_argument("--evaluations", type=int, default=150)
    words = parser.parse_args()
    if words.evaluations < 1:
        parser.error(f"--evaluations must be >= 1, got {words.evaluations}")
    if not words.page:
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            result = _measure(Path(folder), words.evaluations)
        _RESULT.write_text(json.dumps(result, indent=1) + "\n")
    _write_page(json.loads(_RESULT.read_text()))


def _measure(folder: Path, evaluations: int) -> dict[str, Any]:
    began, run = time.process_time(), folder / "run"
    train(override(load_recipe("digits_demo"), _SETTINGS), run)
    tables = {"uniform grid": make_table(run, is_full=True)}
    seconds = {"train and table": time.process_time() - began}
    for method in ("greedy", "evolutionary"):
        began, copy = time.process_time(), folder / method
        shutil.copytree(run, copy)
        options = SearchOptions(method=method, evaluations=evaluations)  # type: ignore[arg-type]
        tables[method] = search(copy, options)
        seconds[method] = time.process_time() - began
    uniform = tables["uniform grid"]
    costs = [row.macs for row in uniform.front()]
    budgets = [float(b) for b in np.geomspace(costs[0], costs[-1], _NUM_BUDGETS + 2)[1:-1]]
    return {
        "settings": list(_SETTINGS),
        "select_images": uniform.rows[0].num_samples,
        "grid": len(uniform.rows),
        "searches": {name: table.meta.get("searches") for name, table in tables.items()},
        "cpu_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "cores": os.cpu_count(),
        "budgets": [
            {"macs": macs} | {name: _picked(table, macs) for name, table in tables.items()}
            for macs in budgets
        ],
    }


def _picked(table: QueryTable, macs: float) -> dict[str, Any]:
    row: Row = table.best(macs=macs)
    return {
        "subnet": str(row.subnet),
        "macs": row.macs,
        "select": row.score,
        "test": row.test_score,
        "test_standard_error": row.test_standard_error,
        "found_by": row.found_by,
    }


def _write_page(result: dict[str, Any]) -> None:
    names = ("uniform grid", "greedy", "evolutionary")
    lines = [
        "WRN-16-1 on digits with half of the train labels random "
        f"({result['select_images']} select images), trained over the widths of `digits_demo`, "
        f"depths 1 and 0.5, and three resolutions; {result['grid']} sub-networks in the grid."
    ]
    for name in names[1:]:
        (one,) = result["searches"][name]
        lines.append(
            f"The {name} search tried {one['evaluations']} sub-networks on {one['images']} images "
            f"each, {one['finished']} were scored in full, and {one['added']} beat the table "
            f"({result['cpu_seconds'][name]:.0f} CPU seconds of one thread)."
        )
    lines += ["", "| M MACs at most | " + " | ".join(names) + " |", "|---:|" + "---:|" * len(names)]
    for budget in result["budgets"]:
        cells = [f"{budget[name]['select']:.1f}, {budget[name]['test']:.1f}" for name in names]
        lines.append(f"| {budget['macs'] / 1e6:.3g} | {' | '.join(cells)} |")
    mean = {n: np.mean([b[n]["test"] for b in result["budgets"]]) for n in names}
    error = np.mean([b[names[0]]["test_standard_error"] for b in result["budgets"]])
    lines += [
        "",
        "Accuracy in % of what each table picks within a budget: on select, which chose, then on "
        f"test (standard error about {error:.1f}). Mean on test over the budgets: "
        + ", ".join(f"{name} {mean[name]:.2f}" for name in names)
        + ".",
    ]
    text = _PAGE.read_text()
    before, _, rest = text.partition(_BEGIN)
    measured = "\n".join(["", *lines, "", ""])
    _PAGE.write_text(before + _BEGIN + measured + _END + rest.partition(_END)[2])


if __name__ == "__main__":
    main()
