"""The section on videos of `docs/results.md`, from the file of its runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutualnet.space import Subnet

RESULTS = Path(__file__).with_name("videos.json")


def section(found: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of the page.

    Args:
        found: What `run` returned, MutualNet's first.
    """
    elastic, *others = found
    rows = {Subnet.from_dict(row["subnet"]): row for row in elastic["rows"]}
    images = elastic["images"]
    lines = [
        "## Videos: six actions of UCF-101",
        "",
        *_TEXT.format(**elastic, **images).splitlines(),
        "",
        "| sub-network | M MACs of a view | MutualNet, test | alone, test | difference | "
        "MutualNet, select | alone, select |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    ahead = 0
    for other in others:
        (alone_row,) = other["rows"]
        subnet = Subnet.from_dict(alone_row["subnet"])
        shared = rows[subnet]
        lines.append(
            f"| {subnet} | {alone_row['macs'] / 1e6:.1f} | {_percent(shared)} | "
            f"{_percent(alone_row)} | {shared['test'] - alone_row['test']:+.1f} | "
            f"{shared['select']:.1f} | {alone_row['select']:.1f} |"
        )
        ahead += shared["test"] > alone_row["test"]
    scales = sorted(
        {(s.resolution, s.num_frames or 0) for s in rows}, key=lambda scale: (-scale[0], -scale[1])
    )
    means = ", ".join(
        f"{statistics.mean(r['test'] for s, r in rows.items() if s.num_frames == frames):.1f} "
        f"with {frames}"
        for frames in sorted({subnet.num_frames or 0 for subnet in rows}, reverse=True)
    )
    lines += [
        "",
        f"Of {len(others)} networks trained alone MutualNet's sub-network is ahead of {ahead}.",
        "The paper's comparisons are of far longer trainings, on Kinetics-400. Mean test accuracy",
        f"by the number of frames: {means}.",
        "",
        "All sub-networks of the one network, test accuracy (M MACs):",
        "",
        "| width | " + " | ".join(f"{side} px, {frames} frames" for side, frames in scales) + " |",
        "|---|" + "---:|" * len(scales),
    ]
    for width in sorted({subnet.width_mult for subnet in rows}, reverse=True):
        cells = []
        for side, frames in scales:
            row = rows[Subnet(width_mult=width, resolution=side, num_frames=frames)]
            cells.append(f"{row['test']:.1f} ({row['macs'] / 1e6:.1f})")
        lines.append(f"| {width:g} | {' | '.join(cells)} |")
    return lines


_TEXT = """\
The small X3D of the recipe `ucf6_x3d`, from scratch on {train} clips of six actions, for {epochs}
epochs in batches of {batch_size} ({steps} steps), one seed ({seed}), on one thread of a CPU;
{select} more clips of train were held out to select. The {test} test clips are of other groups of
videos. A clip is 8 frames at 64 pixels, and a video is scored by three clips. Networks trained
alone see the same pixels of the same frames in as many steps, at their own width, resolution and
number of frames. The scale is tiny: the standard error of a test score is about 5 points, so that
only large differences mean something, and the networks are far from trained out.
`benchmarks/videos.py --data DIR` trains all of it, and the tables are written from
`benchmarks/videos.json`."""


def _percent(row: dict[str, Any]) -> str:
    return f"{row['test']:.1f} ± {row['test_error']:.1f}"
