"""Train pairs by every method and one recipe, and write down the last-epoch errors.

    python benchmarks/compare_peers.py --data DIR --out runs/peers --epochs 20 --seeds 0 1 2

It can be stopped at any time: the same command goes on where it was. Results are kept in
`benchmarks/compare-peers.json` (or `--results`), those of several commands with the same settings
together, and printed as a table for `docs/results.md`. `--report` prints what is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.spread import mean_and_interval  # noqa: E402
from mutualnet.config_text import override  # noqa: E402
from mutualnet.host import flush_denormals, tune_allocator  # noqa: E402
from mutualnet.recipes import load_recipe  # noqa: E402
from mutualnet.runs import load_run, networks_of  # noqa: E402
from mutualnet.train import train  # noqa: E402
from mutualnet.variations import with_epochs, with_teaching  # noqa: E402

METHODS = {
    "independent": ("independent", ()),
    "deep supervision": ("deep_supervision", ()),
    "DML": ("dml", ("teaching.update=alternating",)),
    "DML, joint": ("dml", ()),
    "DKS": ("dks", ()),
    "DCM": ("dcm", ()),
}
RESULTS = ROOT / "benchmarks" / "compare-peers.json"

Errors = dict[str, dict[str, list[float]]]
"""Errors of a run's networks in percent, by method and seed."""


def _report(errors: Errors) -> list[str]:
    """A line per method: each network's error, their mean, and its difference to independence."""
    lines = [
        "| method | network 1 | network 2 | mean of both | less error than independent |",
        "|---|---:|---:|---:|---:|",
    ]
    alone = errors.get("independent", {})
    base = {seed: statistics.mean(found) for seed, found in alone.items()}
    for method, found in errors.items():
        by_seed = dict(sorted(found.items()))
        first, second = (list(values) for values in zip(*by_seed.values(), strict=True))
        means = {seed: statistics.mean(found) for seed, found in by_seed.items()}
        gains = [base[seed] - mean for seed, mean in means.items() if seed in base]
        cells = [
            mean_and_interval(first, 2),
            mean_and_interval(second, 2),
            mean_and_interval(list(means.values()), 2),
        ]
        is_compared = method != "independent" and gains
        cells.append(mean_and_interval(gains, 2) if is_compared else "")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Train what is missing, collect errors, write and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="cifar100_wrn16_1_pair")
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--set", dest="settings", nargs="+", default=[])
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that keeps them")
    parser.add_argument("--report", action="store_true", help="train nothing, print what is there")
    words = parser.parse_args()
    if not words.report:
        if words.data is None or words.out is None or words.epochs is None:
            parser.error("training needs --data, --out and --epochs")
        _train_all(words)
    errors = json.loads(words.results.read_text())["errors"]
    print("\n".join(_report({title: errors[title] for title in METHODS if title in errors})))


def _train_all(words: argparse.Namespace) -> None:
    flush_denormals()
    tune_allocator()
    base = with_epochs(override(load_recipe(words.recipe), words.settings), words.epochs)
    base = replace(base, data=replace(base.data, path=words.data))
    settings = {"recipe": words.recipe, "epochs": words.epochs, "set": words.settings}
    for seed in words.seeds:
        for title in words.methods:
            method, changes = METHODS[title]
            recipe = override(with_teaching(replace(base, seed=seed), method), changes)
            out = words.out / f"{title.replace(' ', '-').replace(',', '')}-{seed}"
            train(recipe, out, resume=True)
            scores = [load_run(path).info["test"]["value"] for path in networks_of(out)]
            place = words.results
            content = json.loads(place.read_text()) if place.exists() else {}
            if content.get("settings") != settings:
                content = {"settings": settings, "errors": {}}
            content["errors"].setdefault(title, {})[str(seed)] = [100 - s for s in scores]
            place.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
