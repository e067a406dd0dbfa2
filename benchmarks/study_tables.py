"""Tables of a group of claims: what each method scores and costs, differences at each budget."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.spread import half_interval, mean_and_interval
from benchmarks.study_store import Store
from benchmarks.study_times import read_times
from benchmarks.study_values import Claim, Config, Entry, StudyRun

_MOST_BUDGETS = 5
_OF_FULL = re.compile(r"ce|ce_largest|ce_\d+")
"""Names of the losses of full networks' own outputs on labels."""


def entries_of(claims: Sequence[Claim]) -> dict[str, tuple[Entry, Claim]]:
    """Every method of some claims once, with a claim that it is in."""
    found: dict[str, tuple[Entry, Claim]] = {}
    for claim in claims:
        for entry in (claim.ours, claim.theirs):
            found.setdefault(entry.title, (entry, claim))
    return found


def scores_table(claims: Sequence[Claim], store: Store) -> list[str]:
    """A line per method, a column per budget: mean over its finished seeds and interval."""
    budgets = _budgets(claims)
    if len(budgets) > _MOST_BUDGETS or claims[0].group == "regime":  # they share no budgets
        return []
    titles = " | ".join(f"{width:g}x{side}" for width, side in budgets)
    lines = [
        f"| within the cost of | {titles} | seeds | train loss | s/step |",
        "|---|" + "---:|" * (len(budgets) + 3),
    ]
    times = read_times(store)["seconds_per_step"]
    for title, (entry, claim) in entries_of(claims).items():
        cells = []
        for config in budgets:
            values = store.at(entry, claim, config)
            cells.append(mean_and_interval(values) if values else "")
        if any(cells):
            about = (len(store.rows(entry)), _train_loss(entry, store), _cost(entry, times))
            lines.append(f"| {title} | {' | '.join(cells)} | {' | '.join(map(str, about))} |")
    return [*lines, ""] if len(lines) > 2 else []


def _budgets(claims: Sequence[Claim]) -> list[Config]:
    return list(dict.fromkeys(budget for claim in claims for budget in claim.budgets))


def differences_table(claims: Sequence[Claim], store: Store) -> list[str]:
    """Differences at each budget, of the claims that have several: mean over seeds and interval."""
    several = [claim for claim in claims if len(claim.budgets) > 1 and store.scores(claim)]
    if not several:
        return []
    budgets = _budgets(several)
    titles = " | ".join(f"{width:g}x{side}" for width, side in budgets)
    lines = [f"| ours - theirs within | {titles} |", "|---|" + "---:|" * len(budgets)]
    for claim in several:
        every = list(store.scores(claim).values())
        found = {
            config: _difference([pairs[place][0] - pairs[place][1] for pairs in every])
            for place, config in enumerate(claim.budgets)
        }
        cells = " | ".join(found.get(config, "") for config in budgets)
        lines.append(f"| `{claim.name}` | {cells} |")
    return [*lines, ""]


def _difference(values: Sequence[float]) -> str:
    text = f"{statistics.mean(values):+.1f}"
    return text + (f" ± {half_interval(values):.1f}" if len(values) > 1 else "")


def _train_loss(entry: Entry, store: Store) -> str:
    """The full networks' cross entropy in the last epoch of their runs: the least and the most."""
    losses = [
        statistics.mean(
            loss
            for one in store.seeds_of(run).values()
            for name, loss in one.get("last_losses", {}).items()
            if _OF_FULL.fullmatch(name)
        )
        for run in entry.runs
        if any(_OF_FULL.fullmatch(name) for name in _loss_names(store, run))
    ]
    if not losses:
        return ""
    low, high = f"{min(losses):.2f}", f"{max(losses):.2f}"
    return low if low == high else f"{low}-{high}"


def _loss_names(store: Store, run: StudyRun) -> set[str]:
    return {name for one in store.seeds_of(run).values() for name in one.get("last_losses", {})}


def _cost(entry: Entry, times: Mapping[str, float]) -> str:
    """Seconds of a training step for each network, of all runs of a method together."""
    seconds = [
        times[key] / len(run.recipe_of(0).models)
        for run in entry.runs
        if (key := run.key()) in times
    ]
    return f"{sum(seconds):.2f}" if len(seconds) == len(entry.runs) else ""
