"""A network that was trained alone becomes elastic: with and without sorting, and after how much.

    OMP_NUM_THREADS=1 nice -n 19 python benchmarks/pretrained.py --data DIR
    python benchmarks/pretrained.py --page      # the tables of docs/pretrained.md, without training

DIR holds a folder for each data set, by its name (`cifar10`). Runs and results are kept as those of
`benchmarks/study.py` are, under the same names: what the study has trained is not trained again,
and a stopped command goes on.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.pretrained_page import write_tables  # noqa: E402
from benchmarks.pretrained_runs import (  # noqa: E402
    CRITERIA,
    RATES,
    SEEDS,
    STEPS,
    alone,
    elastic_run,
    from_scratch,
    rate_of,
)
from benchmarks.study_page import store_of  # noqa: E402
from benchmarks.study_scales import FEW_IMAGES  # noqa: E402
from benchmarks.study_store import Store  # noqa: E402
from benchmarks.study_train import perform  # noqa: E402
from benchmarks.study_values import StudyRun  # noqa: E402
from mutualnet.cpu import flush_denormals, tune_allocator  # noqa: E402

logger = logging.getLogger("pretrained")


def main() -> None:
    """Train what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with a folder for each data set")
    parser.add_argument("--dir", type=Path, default=Path("runs/study"), help="keeps the runs")
    parser.add_argument("--seeds", type=int, nargs="+", choices=SEEDS, default=SEEDS, help="these")
    parser.add_argument("--page", action="store_true", help="write the tables; trains nothing")
    words = parser.parse_args()
    store = store_of(FEW_IMAGES, ROOT / "benchmarks" / "study")
    if not words.page:
        if words.data is None:
            parser.error("training needs --data, the folder with a folder for each data set")
        if not words.data.is_dir():
            parser.error(f"--data must be a folder, got {words.data}")
        first = SEEDS[0]
        if words.seeds[0] != first and not _has_rates(store):
            asked = " ".join(str(seed) for seed in words.seeds if seed != first)
            parser.error(f"seed {first} chooses the learning rates: give --seeds {first} {asked}")
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout, force=True
        )
        flush_denormals()
        tune_allocator()
        if not torch.cuda.is_available():
            torch.set_num_threads(1)  # other numbers of threads give other bits
        train_missing(store, words.seeds, folder=words.dir, data=words.data)
    write_tables(store, ROOT / "docs" / "pretrained.md")


def _has_rates(store: Store) -> bool:
    """Whether the first seed has tried a learning rate at every length."""
    return all(rate_of(store, "l1", steps) is not None for steps in STEPS.values() if steps)


def train_missing(store: Store, seeds: Sequence[int], *, folder: Path, data: Path) -> None:
    """Train and score what the store lacks, and keep each result at once.

    Args:
        store: Keeps results.
        seeds: Which ones; the learning rates are chosen on the first of all.
        folder: Keeps runs.
        data: Holds a folder for each data set.
    """
    for run, seed in wanted(store, seeds):
        if seed in store.seeds_of(run):
            continue
        logger.info("seed %d of: %s", seed, run.words(seed))
        store.put(run, seed, perform(run, seed, folder=folder, data=data))


def wanted(store: Store, seeds: Sequence[int]) -> Iterator[tuple[StudyRun, int]]:
    """Every run in its order; each is asked for when those before it have their results."""
    for seed in seeds:
        yield alone(), seed
        for criterion in CRITERIA:
            yield elastic_run(criterion, 0), seed
        yield from_scratch(), seed
        tuned = [steps for steps in STEPS.values() if steps]
        if seed == SEEDS[0]:
            for steps in tuned:
                for rate in RATES:
                    yield elastic_run("l1", steps, rate), seed
        for criterion in CRITERIA:
            for steps in tuned:
                # Unsorted networks try that of sorted ones first, then all.
                chosen = rate_of(store, criterion, steps) or rate_of(store, "l1", steps)
                assert chosen is not None  # the first seed has tried them
                yield elastic_run(criterion, steps, chosen), seed
        if seed == SEEDS[0]:
            for steps in tuned:
                for rate in RATES:
                    yield elastic_run("none", steps, rate), seed


if __name__ == "__main__":
    main()
