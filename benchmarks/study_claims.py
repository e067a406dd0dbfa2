"""Every claim of a study, the most telling first, and the order of its runs."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import study_peers, study_single
from benchmarks.study_scales import Scale
from benchmarks.study_store import Store
from benchmarks.study_values import Claim, StudyRun


def all_claims(scale: Scale) -> list[Claim]:
    """In the order in which they are run."""
    return [
        *study_single.frontier(scale),
        *study_single.booster(scale)[:1],
        *study_peers.peers(scale),
        *study_single.booster(scale)[1:],
        *study_peers.regime(scale),
        *study_single.targets(scale),
        *study_single.widths(scale),
        *study_single.transfer(scale),
        *study_peers.conditions(scale),
        *study_peers.heads(scale),
        *study_single.scaling(scale),
        *study_peers.both(scale),
    ]


def choose(claims: Sequence[Claim], names: Sequence[str]) -> list[Claim]:
    """Claims by their names or groups; all if none is named.

    Raises:
        ValueError: If a name is unknown.
    """
    known = dict.fromkeys(name for claim in claims for name in (claim.group, claim.name))
    for name in names:
        if name not in known:
            raise ValueError(f"no claim or group is called {name!r}. Known: {', '.join(known)}.")
    return [c for c in claims if not names or c.name in names or c.group in names]


def work(claims: Sequence[Claim], store: Store) -> list[tuple[StudyRun, int]]:
    """What is left to run: the first seed of every claim, then the second, and so on.

    More seeds than a claim's first ones are there only once those have not decided it.
    """
    wanted = {claim.name: store.wanted_seeds(claim) for claim in claims}
    left: list[tuple[StudyRun, int]] = []
    for place in range(max(map(len, wanted.values()), default=0)):
        for claim in claims:
            for seed in wanted[claim.name][place : place + 1]:
                for run in claim.runs():
                    if (run, seed) not in left and seed not in store.seeds_of(run):
                        left.append((run, seed))
    return left
