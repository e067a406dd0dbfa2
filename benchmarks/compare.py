"""Train MutualNet and what it is compared with by one recipe, and write down who wins where.

    python benchmarks/compare.py frontier --data DIR --out runs/compare --epochs 10 --seeds 0 1 2
    python benchmarks/compare.py booster --data DIR --out runs/boost --epochs 20 --seeds 0 1 2

Every part can be stopped at any time: the same command goes on where it was. Results are kept in
`benchmarks/compare-NAME.json`, seeds of several commands with the same settings together, and
printed as tables for `docs/results.md`. `--report` prints what is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.spread import half_interval, mean_and_interval  # noqa: E402
from mutualnet.commands import make_table  # noqa: E402
from mutualnet.config import Recipe  # noqa: E402
from mutualnet.config_text import override  # noqa: E402
from mutualnet.data.feeding import plain_loader  # noqa: E402
from mutualnet.evaluate import evaluate  # noqa: E402
from mutualnet.host import flush_denormals, tune_allocator  # noqa: E402
from mutualnet.prepare import load_splits, plain_task  # noqa: E402
from mutualnet.recipes import load_recipe  # noqa: E402
from mutualnet.runs import load_run  # noqa: E402
from mutualnet.train import train  # noqa: E402
from mutualnet.variations import with_epochs, with_method  # noqa: E402

ALONE = ((1.0, 32), (0.75, 28), (0.5, 24), (0.25, 20))
"""Configurations that are also trained alone, widths and pixels."""


@dataclass(frozen=True)
class Entry:
    """One training run of a comparison."""

    name: str
    recipe: Recipe


def _frontier(base: Recipe) -> list[Entry]:
    """MutualNet, US-Net (its table over all resolutions is US-Net+), and networks alone."""
    runs = [Entry("MutualNet", base), Entry("US-Net", with_method(base, "us_net"))]
    for width, side in ALONE:
        alone = with_method(base, "independent", width_range=(width, width), resolutions=(side,))
        runs.append(Entry(f"alone {width:g}x{side}", alone))
    return runs


def _booster(base: Recipe) -> list[Entry]:
    """One network boosted by its own nearly full widths, and the same recipe alone."""
    boosted = with_method(base, "mutualnet", width_range=(0.9, 1.0))
    return [Entry("MutualNet [0.9, 1]", boosted), Entry("alone", with_method(base, "independent"))]


COMPARISONS = {
    "frontier": ("cifar10_wrn16_1", _frontier),
    "booster": ("cifar100_wrn16_1", _booster),
}


def _rows(path: Path) -> list[dict[str, Any]]:
    """Every configuration of a run: multiply-adds, and scores on both held-out splits.

    The table itself scores its front alone on the test split. Here every row is, so that methods
    can be read at the same configuration; what is chosen is chosen by the select split.
    """
    run = load_run(path)
    assert run.table is not None
    loader = plain_loader(load_splits(run.recipe).test, 250, num_workers=0)
    subnets = [row.subnet for row in run.table.rows]
    tested = evaluate(run.supernet, loader, subnets, task=plain_task(run.recipe))
    return [
        {
            "width": row.subnet.width_mult,
            "side": row.subnet.resolution,
            "macs": row.macs,
            "select": row.score,
            "test": tested[row.subnet].value,
        }
        for row in run.table.rows
    ]


def _methods(runs: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by method: US-Net keeps the top resolution, US-Net+ sweeps all; networks alone join."""
    methods: dict[str, list[dict[str, Any]]] = {}
    for name, rows in runs.items():
        if name.startswith("alone"):
            methods.setdefault("alone", []).extend(rows)
        elif name == "US-Net":
            top = max(row["side"] for row in rows)
            methods["US-Net"] = [row for row in rows if row["side"] == top]
            methods["US-Net+"] = rows
        else:
            methods[name] = rows
    return methods


def _best(rows: list[dict[str, Any]], budget: int) -> dict[str, Any] | None:
    """What the select split chooses within a budget."""
    fitting = [row for row in rows if row["macs"] <= budget]
    return max(fitting, key=lambda row: row["select"], default=None)


Scores = dict[str, dict[int, list[float]]]
"""Test scores of the seeds, by method and budget."""


def _scores(seeds: dict[str, dict[str, list[dict[str, Any]]]]) -> Scores:
    scores: Scores = {}
    for runs in seeds.values():
        methods = _methods(runs)
        budgets = sorted({row["macs"] for row in methods["alone"]}, reverse=True)
        for method, rows in methods.items():
            for budget in budgets:
                best = _best(rows, budget)
                if best is not None:
                    scores.setdefault(method, {}).setdefault(budget, []).append(best["test"])
    return scores


def _report(scores: Scores) -> list[str]:
    """A line per budget, a column per method."""
    budgets = sorted({budget for found in scores.values() for budget in found}, reverse=True)
    lines = ["| within M MACs | " + " | ".join(scores) + " |", "|---:|" + "---:|" * len(scores)]
    for budget in budgets:
        cells = [
            mean_and_interval(found[budget]) if budget in found else "" for found in scores.values()
        ]
        lines.append(f"| {budget / 1e6:.3g} | " + " | ".join(cells) + " |")
    first, *others = scores
    lines += ["", "| within M MACs | " + " | ".join(f"{first} - {o}" for o in others) + " |"]
    lines.append("|---:|" + "---:|" * len(others))
    for budget in budgets:
        cells = [_difference(scores[first].get(budget), scores[o].get(budget)) for o in others]
        lines.append(f"| {budget / 1e6:.3g} | " + " | ".join(cells) + " |")
    return lines


def _difference(mine: list[float] | None, theirs: list[float] | None) -> str:
    """Seed by seed, since the seeds share their images."""
    if mine is None or theirs is None or len(mine) != len(theirs):
        return ""
    return mean_and_interval([a - b for a, b in zip(mine, theirs, strict=True)])


def _plot(scores: Scores, path: Path) -> None:
    """Mean over seeds with intervals, over budgets."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for method, found in scores.items():
        budgets = sorted(found)
        means = [statistics.mean(found[b]) for b in budgets]
        spread = [half_interval(found[b]) for b in budgets]
        axes.errorbar(
            [b / 1e6 for b in budgets], means, spread, label=method, marker="o", capsize=3
        )
    axes.set(xscale="log", xlabel="within M multiply-adds", ylabel="test top-1 accuracy (%)")
    ticks = sorted({round(budget / 1e6, 2) for found in scores.values() for budget in found})
    axes.set_xticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Train what is missing, tabulate, write results and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparison", choices=COMPARISONS)
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="settings", nargs="+", default=[])
    parser.add_argument("--report", action="store_true", help="train nothing, print what is there")
    words = parser.parse_args()
    place = ROOT / "benchmarks" / f"compare-{words.comparison}.json"
    if not words.report:
        if words.data is None or words.out is None or words.epochs is None:
            parser.error("training needs --data, --out and --epochs")
        _train_all(words, place)
    scores = _scores(dict(sorted(json.loads(place.read_text())["seeds"].items())))
    if max(map(len, scores.values())) > 1:
        _plot(scores, ROOT / "docs" / f"compare-{words.comparison}.png")
    print("\n".join(_report(scores)))


def _train_all(words: argparse.Namespace, place: Path) -> None:
    """Train and tabulate what is missing, and keep the results of every run."""
    flush_denormals()
    tune_allocator()
    name, entries_of = COMPARISONS[words.comparison]
    fixed = ["table.latency_runs=0", "space.width_step=0.25", *words.settings]
    base = with_epochs(override(load_recipe(name), fixed), words.epochs)
    base = replace(base, data=replace(base.data, path=words.data))
    settings = {"recipe": name, "epochs": words.epochs, "set": words.settings}
    for seed in words.seeds:
        for entry in entries_of(replace(base, seed=seed)):
            run = words.out / f"{entry.name.replace(' ', '-')}-{seed}"
            train(entry.recipe, run, resume=True)
            if load_run(run).table is None:
                make_table(run, is_full=True)
            content = json.loads(place.read_text()) if place.exists() else {}
            if content.get("settings") != settings:
                content = {"settings": settings, "seeds": {}}
            content["seeds"].setdefault(str(seed), {})[entry.name] = _rows(run)
            place.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
