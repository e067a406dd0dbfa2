"""Seconds per mutual step of one case, in a process of its own: fp32 NCHW, or what beats it."""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    """Print the median of seven steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", type=int, choices=(0, 1, 2), help="place among `step.CASES`")
    parser.add_argument(
        "flush", type=int, choices=(0, 1), help="1 for bf16 channels_last with denormals flushed"
    )
    words = parser.parse_args()
    number, flush = words.case, bool(words.flush)
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
            batches[case.space.resolutions[0]],
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
