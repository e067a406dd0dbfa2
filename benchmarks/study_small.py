"""What was found with fewer parameters and more images: WRN-16-1 on a fifth of CIFAR."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.spread import mean_and_interval
from benchmarks.study_plots import plot_curves

Scores = dict[str, dict[int, list[float]]]
"""Test scores of the seeds, by method and budget in multiply-adds."""

PICTURE = "small-networks.png"


def small_networks(folder: Path, docs: Path) -> list[str]:
    """The section's lines; its picture is written too.

    Args:
        folder: Holds the results.
        docs: Gets the picture.
    """
    frontier, booster, peers = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("frontier", "booster", "peers")
    )
    scores = _scores(frontier["seeds"])
    boosted = _scores(booster["seeds"])
    curves = {
        method: {budget / 1e6: values for budget, values in found.items()}
        for method, found in scores.items()
    }
    plot_curves(curves, docs / PICTURE, x="within M multiply-adds", y="test top-1 accuracy (%)")
    return [
        *_INTRODUCTION,
        *_table(scores),
        "",
        f"![Test accuracy within a budget, by method]({PICTURE})",
        "",
        *_differences(scores),
        "",
        *_BOOSTER,
        *_table(boosted),
        "",
        *_differences(boosted),
        "",
        *_PEERS,
        *_peers(peers["errors"]),
        "",
        *_CONCLUSION,
    ]


_INTRODUCTION = [
    *"""\
## The small-network regime: fewer parameters, more images

WRN-16-1 (0.18 M parameters) on a fifth of CIFAR's train images (9,000) for 1,400 to 1,700 steps of
batch size 128, in bf16, with three seeds and the same recipe for all methods. MutualNet and US-Net
are one network each for all budgets; US-Net+ is the US-Net network evaluated at all four
resolutions; *alone* stands for four networks, each trained at one width and resolution. Within each
budget the configuration is chosen on the select split. Scores are those of the test split in
percent, with 95 % intervals.

CIFAR-10, 24 epochs:
""".splitlines(),
    "",
]
_BOOSTER = ["CIFAR-100, one network boosted by widths [0.9, 1], 24 epochs:", ""]
_PEERS = [
    *"""\
CIFAR-100, two networks at 20 px, 20 epochs, error in percent; *DML* updates its networks in turn:
""".splitlines(),
    "",
]
_CONCLUSION = """\
In this regime networks trained alone win at every budget but the smallest, and boosting one network
by its nearly full widths lowers its score. Of the methods for two networks only DML in turn is told
apart from independent networks, and it has the higher error. The networks alone at a lower
resolution saw images that were made smaller with an antialiasing filter, as the others' were not.
The papers' networks are up to two hundred times larger.
""".splitlines()


def _scores(seeds: Mapping[str, Mapping[str, Any]]) -> Scores:
    scores: Scores = {}
    for _, runs in sorted(seeds.items()):
        methods = _methods(runs)
        for budget in sorted({row["macs"] for row in methods["alone"]}, reverse=True):
            for method, rows in methods.items():
                fitting = [row for row in rows if row["macs"] <= budget]
                if fitting:
                    best = max(fitting, key=lambda row: row["select"])
                    scores.setdefault(method, {}).setdefault(budget, []).append(best["test"])
    return scores


def _methods(runs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    methods: dict[str, list[Any]] = {}
    for name, rows in runs.items():
        if name.startswith("alone"):
            methods.setdefault("alone", []).extend(rows)
        elif name == "US-Net":
            top = max(row["side"] for row in rows)
            methods["US-Net"] = [row for row in rows if row["side"] == top]
            methods["US-Net+"] = list(rows)
        else:
            methods[name] = list(rows)
    return methods


def _table(scores: Scores) -> list[str]:
    lines = ["| within M MACs | " + " | ".join(scores) + " |", "|---:|" + "---:|" * len(scores)]
    for budget in _budgets(scores):
        cells = [
            mean_and_interval(found[budget]) if budget in found else "" for found in scores.values()
        ]
        lines.append(f"| {budget / 1e6:.3g} | " + " | ".join(cells) + " |")
    return lines


def _differences(scores: Scores) -> list[str]:
    first, *others = scores
    titles = " | ".join(f"{first} - {other}" for other in others)
    lines = [f"| within M MACs | {titles} |", "|---:|" + "---:|" * len(others)]
    for budget in _budgets(scores):
        cells = []
        for other in others:
            pair = scores[first].get(budget, []), scores[other].get(budget, [])
            values = [mine - theirs for mine, theirs in zip(*pair, strict=False)]
            cells.append(mean_and_interval(values) if values else "")
        lines.append(f"| {budget / 1e6:.3g} | " + " | ".join(cells) + " |")
    return lines


def _budgets(scores: Scores) -> list[int]:
    return sorted({budget for found in scores.values() for budget in found}, reverse=True)


def _peers(errors: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    lines = ["| method | mean of both | less error than independent |", "|---|---:|---:|"]
    base = {seed: statistics.mean(found) for seed, found in errors["independent"].items()}
    for method in _METHODS:
        means = {seed: statistics.mean(found) for seed, found in sorted(errors[method].items())}
        gains = [base[seed] - mean for seed, mean in means.items()]
        gain = "" if method == "independent" else mean_and_interval(gains, 2)
        lines.append(f"| {method} | {mean_and_interval(list(means.values()), 2)} | {gain} |")
    return lines


_METHODS = ("independent", "deep supervision", "DML", "DML, joint", "DKS", "DCM")
