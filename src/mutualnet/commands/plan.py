"""`mutualnet plan`: what to train for some budgets, on this machine."""

from __future__ import annotations

import torch
from rich.table import Table

from mutualnet.budget import parse_budget
from mutualnet.console import make_console
from mutualnet.cpu import prepare_cpu
from mutualnet.models import create_model
from mutualnet.numbers import in_digits
from mutualnet.planning import propose_space


def plan(model: str, *, budgets: str, resolutions: tuple[int, ...], num_classes: int) -> None:
    """Print which widths and resolutions meet some budgets on this machine."""
    prepare_cpu()
    limits = [parse_budget(text.strip()) for text in budgets.split(",") if text.strip()]
    if not limits:
        raise ValueError("--budgets must name at least one, for example 5ms,150M, got none")
    console = make_console()
    console.print("timing narrow networks on this machine ...")
    found = propose_space(
        lambda: create_model(model, num_classes=num_classes), limits, resolutions=resolutions
    )
    table = Table("budget", "sub-network", "M multiply-adds", "latency (ms)", box=None)
    for choice in found.choices:
        table.add_row(
            str(choice.budget),
            str(choice.subnet),
            in_digits(choice.macs / 1e6, 4),
            in_digits(choice.latency_ms, 3),
        )
    console.print(table)
    low, high = found.space.width_range
    sides = " ".join(str(side) for side in found.space.resolutions)
    console.print(
        f"proposed: --width-range {low:g} {high:g} --resolutions {sides}\n"
        f"One network trained so runs at {len(found.choices)} of these budgets; latency is that of "
        f"one image at a time, threads: {torch.get_num_threads()}."
    )
