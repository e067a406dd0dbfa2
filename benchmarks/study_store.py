"""Where a study keeps its results: one file for each run, one for each claim."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.study_values import Claim, Config, Entry, StudyRun
from benchmarks.study_verdict import (
    UNDECIDED,
    Rows,
    Verdict,
    best_within,
    budget_of,
    differences,
    judge,
)

_key = cache(StudyRun.key)


class Store:
    """Results of one scale.

    Args:
        folder: Holds a file per claim, and `runs/` with a file per run, named by the hash of its
            complete settings.
        scale: Name of the scale, which every file carries.
    """

    def __init__(self, folder: Path, scale: str) -> None:
        self.folder = folder
        self.scale = scale

    def seeds_of(self, run: StudyRun) -> dict[int, dict[str, Any]]:
        """What finished seeds of a run gave, by seed."""
        path = self._run_path(run)
        if not path.exists():
            return {}
        content = json.loads(path.read_text())
        if content["scale"] != self.scale:
            raise ValueError(f"{path} must hold runs of scale {self.scale}, got {content['scale']}")
        return {int(seed): found for seed, found in sorted(content["seeds"].items())}

    def put(self, run: StudyRun, seed: int, found: Mapping[str, Any]) -> None:
        """Keep what a seed of a run gave; the file is replaced when the new one is whole."""
        seeds = {str(number): old for number, old in self.seeds_of(run).items()}
        seeds[str(seed)] = dict(found)
        content = {
            "scale": self.scale,
            "command": run.words(seed),
            "settings": run.values(),
            "seeds": dict(sorted(seeds.items(), key=lambda item: int(item[0]))),
        }
        write_json(self._run_path(run), content)

    def _run_path(self, run: StudyRun) -> Path:
        return self.folder / "runs" / f"{_key(run)}.json"

    def rows(self, entry: Entry) -> dict[int, Rows]:
        """Scored configurations of a method, for every seed that all its runs have."""
        found = [self.seeds_of(run) for run in entry.runs]
        common = set.intersection(*(set(seeds) for seeds in found))
        return {
            seed: [row for seeds in found for row in seeds[seed]["rows"]] for seed in sorted(common)
        }

    def scores(self, claim: Claim) -> dict[int, list[tuple[float, float]]]:
        """Scores of both methods at every budget, by seed."""
        return differences(claim, self.rows(claim.ours), self.rows(claim.theirs))

    def values(self, claim: Claim) -> list[float]:
        """The claim's number for every seed: the mean over budgets of ours minus theirs."""
        return list(self._values_by_seed(claim).values())

    def at(self, entry: Entry, claim: Claim, config: Config) -> list[float]:
        """Scores of a method within one budget, for every seed that it has.

        Args:
            entry: One of the claim's two.
            claim: Whose rows tell what the budget is.
            config: The budget.
        """
        every = [*self.rows(claim.theirs).values(), *self.rows(claim.ours).values()]
        budget = budget_of(config, [row for rows in every for row in rows])
        if budget is None:
            return []
        found = [best_within(rows, budget, entry) for rows in self.rows(entry).values()]
        return [score for score in found if score is not None]

    def verdict(self, claim: Claim) -> Verdict:
        """What the finished seeds say: exactly the first ones, or all where those leave it open.

        Seeds that other claims have run already do not count before these are left open.
        """
        values = self._values_by_seed(claim)
        first = [values[seed] for seed in claim.seeds if seed in values]
        found = judge(first, needed=len(claim.seeds), margin=claim.margin)
        if found.word != UNDECIDED or not claim.more_seeds:
            return found
        every = [values[seed] for seed in (*claim.seeds, *claim.more_seeds) if seed in values]
        needed = len(claim.seeds) + len(claim.more_seeds)
        return judge(every, needed=needed, margin=claim.margin)

    def wanted_seeds(self, claim: Claim) -> tuple[int, ...]:
        """Seeds to run: more than the first ones where those have not decided."""
        values = self._values_by_seed(claim)
        first = [values[seed] for seed in claim.seeds if seed in values]
        found = judge(first, needed=len(claim.seeds), margin=claim.margin)
        return (*claim.seeds, *(claim.more_seeds if found.word == UNDECIDED else ()))

    def _values_by_seed(self, claim: Claim) -> dict[int, float]:
        return {seed: _mean_difference(pairs) for seed, pairs in self.scores(claim).items()}

    def write_claims(self, claims: Iterable[Claim]) -> None:
        """Write the files of those claims that have a seed."""
        for claim in claims:
            if self.scores(claim):
                self.write_claim(claim)

    def write_claim(self, claim: Claim) -> None:
        """Write what is known of a claim, from its runs' files."""
        verdict, scores = self.verdict(claim), self.scores(claim)
        commits = {found["commit"] for run in claim.runs() for found in self.seeds_of(run).values()}
        content = {
            "claim": claim.name,
            "scale": self.scale,
            "source": claim.source,
            "says": claim.says,
            "ours": claim.ours.title,
            "theirs": claim.theirs.title,
            "rule": "mean over budgets of ours - theirs by seed, 95 % t interval over seeds",
            "margin": claim.margin,
            "budgets": [f"{width:g}x{side}" for width, side in claim.budgets],
            "scores": {str(seed): [list(pair) for pair in pairs] for seed, pairs in scores.items()},
            "difference": verdict.mean,
            "half_interval": verdict.half,
            "verdict": verdict.word,
            "runs": [_key(run) for run in claim.runs()],
            "commits": sorted(commits),
        }
        write_json(self.folder / f"{claim.name}.json", content)


def _mean_difference(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(mine - other for mine, other in pairs) / len(pairs)


def write_json(path: Path, content: Any) -> None:
    """Write a file under a temporary name first, so that it is never half there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)
