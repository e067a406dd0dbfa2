"""Seconds per mutual step of one case, in a process of its own: arguments CASE FLUSH(0|1)."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    """Print the median of seven steps."""
    number, flush = int(sys.argv[1]), sys.argv[2] == "1"
    from mutualnet.cpu import flush_denormals, tune_allocator

    tune_allocator()
    if flush:
        flush_denormals()
    import torch

    from benchmarks.step import CASES, Prescaled, optimizer_of, prepare
    from benchmarks.timing import seconds_of
    from mutualnet.sandwich import sandwich_step

    case = CASES[number]
    layout = torch.channels_last if flush else torch.contiguous_format
    supernet, batches = prepare(case, layout)
    optimizer = optimizer_of(supernet.parameters())

    def step() -> None:
        optimizer.zero_grad()
        sandwich_step(
            supernet,
            None,
            case.draw,
            task=Prescaled(batches=batches),
            autocast=torch.bfloat16 if flush else None,
        )
        optimizer.step()

    for _ in range(2):
        step()
    print(statistics.median(seconds_of(step) for _ in range(7)))


if __name__ == "__main__":
    main()
