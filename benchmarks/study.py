"""Find out which of the papers' claims hold: train what they speak of, several seeds, and write it.

    python benchmarks/study.py --list                       # claims, their cost, what is done
    OMP_NUM_THREADS=1 nice -n 19 python benchmarks/study.py --data DIR >> runs/study.log 2>&1
    python benchmarks/study.py boost us_net --data DIR      # some claims or groups of them alone
    OMP_NUM_THREADS=1 python benchmarks/study.py --times --data DIR    # seconds of every run's step
    python benchmarks/study.py --page                       # docs/results.md, without any training
    python benchmarks/study.py --scale paper --list         # the same at the papers' sizes

DIR holds a folder for each data set, by its name (`cifar10`, `cifar100`). The study can be stopped
at any time, by `kill -9` too: the same command goes on, to the same bits. Runs are kept in `--dir`,
results under `benchmarks/study/`: `runs/KEY.json` for each run, by the hash of its complete
settings, so that claims share runs, and `CLAIM.json` for each claim. Seed 0 of every claim comes
first, then seeds 1 and 2, then two more for claims that these did not decide.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.study_claims import all_claims, choose, work  # noqa: E402
from benchmarks.study_cost import hours_of  # noqa: E402
from benchmarks.study_page import command_lines, store_of, write_page  # noqa: E402
from benchmarks.study_scales import SCALES, Scale  # noqa: E402
from benchmarks.study_store import Store  # noqa: E402
from benchmarks.study_times import measure_times  # noqa: E402
from benchmarks.study_train import perform  # noqa: E402
from benchmarks.study_values import Claim, StudyRun  # noqa: E402
from mutualnet.cpu import flush_denormals, tune_allocator  # noqa: E402

logger = logging.getLogger("study")


def main() -> None:
    """Run what is left of some claims, or list them, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "claims", nargs="*", metavar="CLAIM", help="names or groups; all by default"
    )
    parser.add_argument("--data", type=Path, help="folder with a folder for each data set")
    parser.add_argument("--dir", type=Path, default=Path("runs/study"), help="keeps the runs")
    parser.add_argument("--scale", choices=SCALES, default=next(iter(SCALES)))
    parser.add_argument(
        "--list", action="store_true", help="claims, cost and state; trains nothing"
    )
    parser.add_argument("--commands", action="store_true", help="the runs' own command lines")
    parser.add_argument(
        "--times", action="store_true", help="time some steps of every run; trains nothing else"
    )
    parser.add_argument("--page", action="store_true", help="write docs/results.md; trains nothing")
    words = parser.parse_args()
    scale = SCALES[words.scale]
    store = store_of(scale, ROOT / "benchmarks" / "study")
    try:
        claims = choose(all_claims(scale), words.claims)
    except ValueError as error:
        parser.error(str(error))
    if words.list:
        _list(claims, store, scale)
    elif words.commands:
        print("\n".join(command_lines(claims)))
    elif words.page:
        store.write_claims(all_claims(scale))
        write_page(ROOT)
    elif words.data is None:
        parser.error("training needs --data, the folder with a folder for each data set")
    else:
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout, force=True
        )
        flush_denormals()
        tune_allocator()
        if not torch.cuda.is_available():
            torch.set_num_threads(1)  # other numbers of threads give other bits
        if words.times:
            runs = dict.fromkeys(run for claim in claims for run in claim.runs())
            measure_times(runs, store, data=words.data)
            return
        try:
            run_all(claims, store, folder=words.dir, data=words.data)
        except KeyboardInterrupt:
            sys.exit("stopped: the same command goes on where it was")
        store.write_claims(all_claims(scale))  # others that share these runs


def run_all(claims: list[Claim], store: Store, *, folder: Path, data: Path) -> None:
    """Train and score what is left, and write each result at once.

    A run that fails is named and left for the next start; what depends on it fails with it.

    Args:
        claims: In order.
        store: Keeps results.
        folder: Keeps runs.
        data: Holds a folder for each data set.
    """
    store.write_claims(claims)  # all runs of a claim may be others' too
    failed: set[tuple[StudyRun, int]] = set()
    while left := [item for item in work(claims, store) if item not in failed]:
        run, seed = left[0]
        logger.info("%d runs left; seed %d of: %s", len(left), seed, run.words(seed))
        try:
            store.put(run, seed, perform(run, seed, folder=folder, data=data))
        except (ValueError, RuntimeError, OSError):
            logger.exception("this run failed and is left out")
            failed.add((run, seed))
            continue
        for claim in claims:
            if run in claim.runs():
                store.write_claim(claim)
                found = store.verdict(claim)
                if found.mean is not None:
                    logger.info(
                        "%s: %+.2f ± %.2f, %d seeds, %s",
                        claim.name,
                        found.mean,
                        found.half,
                        found.num_seeds,
                        found.word,
                    )
    logger.info("done; %d runs failed", len(failed))


def _list(claims: list[Claim], store: Store, scale: Scale) -> None:
    """A line for each claim: cost of its runs (those that earlier lines have are free), state."""
    known: set[StudyRun] = set()
    total = rest = 0.0
    print(f"scale {scale.name}: {scale.title}; hours of {scale.machine}, all first seeds")
    for claim in claims:
        new = [run for run in claim.runs() if run not in known]
        known.update(new)
        hours = sum(hours_of(run, scale) for run in new)
        cost = hours * len(claim.seeds)
        verdict = store.verdict(claim)
        done = {run: store.seeds_of(run).keys() & set(claim.seeds) for run in new}
        rest += sum(hours_of(r, scale) * (len(claim.seeds) - len(d)) for r, d in done.items())
        total += cost
        state = f"{verdict.num_seeds} of {len(store.wanted_seeds(claim))} seeds, {verdict.word}"
        print(f"{claim.group:<10} {claim.name:<32} {cost:6.2f} h  {state}")
    print(f"{len(known)} runs, {total:.1f} h for all first seeds, {rest:.1f} h of them left")


if __name__ == "__main__":
    main()
