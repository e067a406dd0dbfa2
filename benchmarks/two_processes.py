"""Seconds per step of one process or of several: run by itself, or by torchrun.

python benchmarks/two_processes.py THREADS
torchrun --standalone --nproc-per-node 2 benchmarks/two_processes.py THREADS
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mutualnet.config import override
from mutualnet.cpu import flush_denormals, tune_allocator
from mutualnet.distributed import gather, process_group
from mutualnet.recipes import load_recipe
from mutualnet.training import TrainingModule, set_up_training

_STEPS = 11
_SETTINGS = [
    "model.name=wrn16_4",
    "model.kwargs={}",
    "space.resolutions=[32, 28, 24, 20]",
    "data.batch_size=128",
    "compute.precision=fp32",
    "compute.memory_format=contiguous",
]


def main() -> None:
    """Print the median of the slowest process's steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("threads", type=int, help="of every process")
    torch.set_num_threads(parser.parse_args().threads)
    tune_allocator()
    flush_denormals()
    recipe = override(load_recipe("digits_demo"), _SETTINGS)
    with process_group() as ranks:
        setup = set_up_training(recipe)
        module = TrainingModule(setup)
        batch = next(iter(setup.loader()))
        times = []
        for step in range(_STEPS + 2):
            start = time.perf_counter()
            module.take_step(batch, step)
            times.append(time.perf_counter() - start)
        slowest = [max(step) for step in zip(*gather(times), strict=True)][2:]
        if ranks.is_first:
            print(f"{statistics.median(slowest):.4f}")


if __name__ == "__main__":
    main()
