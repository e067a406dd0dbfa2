"""The section on nuclei of `docs/results.md`, from the file of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("objects.json")


def section(found: Mapping[str, Any]) -> list[str]:
    """Lines of the page.

    Args:
        found: What `objects.py` wrote.
    """
    runs = found["runs"]
    shared = {name: runs[name] for name in ("mutualnet", "us_net") if name in runs}
    alone = {_place(run["rows"][0]): run for name, run in runs.items() if name.startswith("alone ")}
    seconds = [f"{run['cpu_seconds']} s for {_TITLES[name]}" for name, run in shared.items()]
    seconds += [f"{sum(run['cpu_seconds'] for run in alone.values())} s for all trained alone"]
    lines = [
        "## Objects: nuclei with their masks",
        "",
        *_TEXT.format(**found, **next(iter(runs.values()))).splitlines(),
        "",
        f"| sub-network | M MACs | {' | '.join(_TITLES[name] for name in shared)} | alone |",
        f"|---|---:|{'---:|' * len(shared)}---:|",
    ]
    for row in next(iter(shared.values()))["rows"]:
        cells = [
            _score(next(r for r in run["rows"] if _place(r) == _place(row)))
            for run in shared.values()
        ]
        other = alone.get(_place(row))
        cells.append("" if other is None else _score(other["rows"][0]))
        name = f"{row['width']:g}x{row['side']}"
        lines.append(f"| {name} | {row['macs'] / 1e6:.1f} | {' | '.join(cells)} |")
    lines += ["", *_verdict(runs, alone)]
    return [*lines, f"Training took {', '.join(seconds)}, of CPU time on one thread.", ""]


def _verdict(runs: Mapping[str, Any], alone: Mapping[tuple[float, int], Any]) -> list[str]:
    """At how many places the network that MutualNet trained once is ahead."""
    ours, theirs = (
        {_place(row): row["ap"] for row in runs[name]["rows"]} for name in ("mutualnet", "us_net")
    )
    others = {place: run["rows"][0]["ap"] for place, run in alone.items()}
    first, second = (sum(ours[p] > ap for p, ap in found.items()) for found in (others, theirs))
    return [
        f"MutualNet is above the network trained alone at {first} of {len(others)} places,",
        f"and above US-Net at {second} of {len(theirs)}. One seed and {runs['mutualnet']['steps']}",
        "steps do not say which method is better in the end.",
    ]


_TITLES = {"mutualnet": "MutualNet", "us_net": "US-Net"}
_TEXT = """\
The small Mask R-CNN of the recipe `nuclei_mask_rcnn`, from scratch on {images[train]} images of
nuclei, for {epochs} epochs in batches of {batch_size} ({steps} steps), one seed ({seed}), fp32 on
one thread of a CPU. Mask AP (%) on the {images[test]} test images after the last epoch, with 128
train images behind the BN statistics; no choice was made, so the select images were not looked at.
A sub-network is a width and a short side in pixels, and its multiply-adds are those of the
backbone on a square. US-Net was trained at 192 pixels, and is scored at 96 as US-Net+ is. The
recipe itself trains for 20 epochs. `benchmarks/objects.py OUT --data DIR` trains all of it, and the
table is written from `benchmarks/objects.json`."""


def _place(row: Mapping[str, Any]) -> tuple[float, int]:
    return row["width"], row["side"]


def _score(row: Mapping[str, Any]) -> str:
    return f"{row['ap']:.1f} ± {row['standard_error']:.1f}"
