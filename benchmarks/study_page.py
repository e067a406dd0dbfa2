"""`docs/results.md`, written from the files of a study."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks import objects_page, videos_page
from benchmarks.study_claims import all_claims
from benchmarks.study_plots import Curve, plot_curves, plot_differences, plot_regime
from benchmarks.study_scales import SCALES, Scale
from benchmarks.study_small import small_networks
from benchmarks.study_store import Store
from benchmarks.study_tables import differences_table, entries_of, scores_table
from benchmarks.study_times import read_times
from benchmarks.study_values import ASKED_HERE, Claim, StudyRun
from benchmarks.study_verdict import (
    HOLDS,
    HOLDS_NOT,
    UNDECIDED,
    UNFINISHED,
    Verdict,
    budget_of,
)

GROUPS = {
    "frontier": "One network for every budget",
    "boost": "Boosting one network by its own nearly full widths",
    "peers": "Two networks that teach each other",
    "regime": "How the regime matters: more images in as many steps, two widths of network",
    "targets": "Targets of the narrower networks: the largest one's output or labels",
    "widths": "The lower bound of widths",
    "transfer": "Transfer to another data set",
    "noise": "Wrong labels",
    "conditions": "Dropout, and unequal networks",
    "heads": "Which classifiers teach which",
    "scaling": "Scaling up",
    "both": "Slimmable networks that teach each other",
}
"""Headings, in the order of the page."""


def store_of(scale: Scale, folder: Path) -> Store:
    """Results of a scale; those of the default one lie directly in the folder."""
    is_default = scale.name == next(iter(SCALES))
    return Store(folder if is_default else folder / scale.name, scale.name)


def write_page(root: Path, docs: Path | None = None) -> None:
    """Write the page and its pictures; nothing is trained.

    Args:
        root: Of the repository.
        docs: Gets page and pictures; `root/docs` by default.
    """
    docs, folder = docs or root / "docs", root / "benchmarks" / "study"
    lines = ["# Results", "", *_INTRODUCTION, ""]
    for scale in SCALES.values():
        lines += _scale(scale, store_of(scale, folder), docs)
    lines += [*small_networks(folder / "small-networks", docs), ""]
    lines += (folder / "photos.md").read_text().splitlines()
    for page in (videos_page, objects_page):
        results = root / "benchmarks" / page.RESULTS.name
        if results.is_file():
            lines += ["", *page.section(json.loads(results.read_text()))]
    (docs / "results.md").write_text("\n".join(lines) + "\n")


_INTRODUCTION = """\
This page is written by `python benchmarks/study.py --page` from the files in `benchmarks/study/`;
`python benchmarks/study.py CLAIM --data DIR` trains what a claim lacks. Scores are top-1 accuracy
in percent, on the whole test split, after the last epoch. Configurations are chosen on the *select*
split, which is held out of the train split. BN statistics are calibrated in every row on 1,024
augmented (never mixed) train images, or as many as make whole batches within that (972 of 54 each).
Runs of the same seed see the same images, in the same order, with the same augmentation.

A claim compares two methods. For each seed we take the difference of their scores, ours minus
theirs, averaged over the budgets of the claim: within a budget of multiply-adds, each method uses
the configuration that scores highest on the select split. A pair of networks scores the mean of
both. The criterion was fixed before the runs: a claim *holds* if the 95 % t interval over seeds
lies above 0 (or above the margin that is named), *does not* hold if it lies below, and is *not
decided* otherwise. Seeds 0, 1 and 2 decide; where they do not, exactly seeds 0 to 4 do. A claim
that seed 0 of its own runs suggested is decided by seeds 1 to 3, or 1 to 5. *Unfinished* claims
show the seeds that were run so far. Two looks have a price: of claims without any difference 9 %
would be called decided, half of them *holds*. Of so many claims some are therefore expected to be
judged wrongly. After the first five seeds of the first section the numbers of seeds that decide,
the budgets of US-Net and the images of networks alone at lower resolutions were set as they are
now: MutualNet's differences became smaller by it, no verdict changed.
""".splitlines()


def _scale(scale: Scale, store: Store, docs: Path) -> list[str]:
    claims = all_claims(scale)
    lines = [f"## Do the papers' claims hold? {scale.title}", ""]
    if not any(store.seeds_of(run) for claim in claims for run in claim.runs()):
        flag = "" if scale is next(iter(SCALES.values())) else f" --scale {scale.name}"
        return [
            *lines,
            "Nothing has been run at this scale yet; "
            f"`python benchmarks/study.py{flag} --list` tells what it costs.",
            "",
        ]
    verdicts = {claim.name: store.verdict(claim) for claim in claims}
    of_papers = [verdicts[claim.name] for claim in claims if claim.source != ASKED_HERE]
    asked = [verdicts[claim.name] for claim in claims if claim.source == ASKED_HERE]
    picture = f"study-{scale.name}.png"
    plot_differences(verdicts, docs / picture)
    lines += [
        *scale.text.splitlines(),
        *_about_times(store),
        "",
        f"Of {len(of_papers)} claims that papers make, {_count(of_papers)}. "
        f"Of {len(asked)} more that are *asked here*, {_count(asked)}.",
        "",
        f"![Difference and interval of every claim]({picture})",
        "",
    ]
    for group, title in GROUPS.items():
        own = [claim for claim in claims if claim.group == group]
        if own:
            lines += [f"### {title}", "", *_group(group, own, store, scale, docs)]
    return lines


def _count(verdicts: Sequence[Verdict]) -> str:
    """How many have each verdict, in words."""
    count = Counter(found.word for found in verdicts)
    words = {
        HOLDS: ("holds", "hold"),
        HOLDS_NOT: ("does not", "do not"),
        UNDECIDED: ("is not decided", "are not decided"),
        UNFINISHED: ("is unfinished", "are unfinished"),
    }
    found = ((count[word], texts) for word, texts in words.items() if count[word])
    return ", ".join(f"{number} {texts[number > 1]}" for number, texts in found)


def _about_times(store: Store) -> list[str]:
    times = read_times(store)
    if not times["seconds_per_step"]:
        return []
    return [
        "*s/step*: seconds of a training step, loading included, for each network that learns in",
        "it, without what pretraining or a teacher's own training takes; mean of "
        f"{times['steps']} steps.",
        f"All runs were timed one after another with PyTorch {times['torch']}",
        f"on {times['threads']} thread(s) of {times['machine']}, while the machine may have done",
        "other work: compare them with each other.",
    ]


_NOTES = {
    "frontier": [
        "In the paper the full network gains, here the difference is not decided. MutualNet's has",
        "not fitted its images after these steps: compare its train loss with that of the network",
        "alone. `full_width_longer` gives both twice the steps. US-Net has one network for the two",
        "smallest budgets of `us_net`: within 0.5x24 only its narrowest width fits at 32 px.",
        "",
    ],
    "regime": [
        "In as many steps more images mean fewer epochs: 70, 21 and 7. MutualNet and DML are above",
        "networks that learn alone where all of them see 3 % of the images 70 times; with 10 % and",
        "30 % they are nowhere above. The sign turns between 3 % and 10 %. With more images",
        "MutualNet loses at full width: its narrowest sub-network is nowhere told to be below.",
        "",
    ],
    "targets": [
        "After as many steps the networks whose narrower ones learn from labels have fitted their",
        "images, those with KL have not: compare the train losses. The claims with twice the",
        "epochs ask whether KL gains by more steps.",
        "",
    ],
    "transfer": [
        "Pretraining and fine-tuning as short as this leave all methods below the networks of the",
        "first section, which train from scratch. The claims with three times the epochs",
        "fine-tune for about as many steps as those.",
        "",
    ],
    "boost": [
        "All methods take as many steps, but a step of MutualNet costs four times as much as",
        "training alone: `boost_longer` gives the network alone the same time. On CIFAR-10, the",
        "data of this scale, the paper too has MutualNet below AutoAugment; on CIFAR-100 it is",
        "above.",
        "",
    ],
}
"""What was found where a verdict asks for a reason, by group."""


def _group(
    group: str, claims: Sequence[Claim], store: Store, scale: Scale, docs: Path
) -> list[str]:
    lines = ["| claim | paper | it says | ours - theirs, points | verdict | command |"]
    lines.append("|---|---|---|---:|---|---|")
    flag = "" if scale is next(iter(SCALES.values())) else f"--scale {scale.name} "
    for claim in claims:
        lines.append(
            f"| {claim.ours.title} against {claim.theirs.title} | {claim.source} | {claim.says} | "
            f"{_number(claim, store)} | {_verdict(claim, store)} | "
            f"`python benchmarks/study.py {flag}{claim.name}` |"
        )
    lines += [
        "",
        *scores_table(claims, store),
        *differences_table(claims, store),
        *_NOTES.get(group, ()),
    ]
    picture = f"study-{scale.name}-{group}.png"
    if group in ("frontier", "transfer"):
        curves = _curves(claims, store)
        if curves:
            axis = "within M multiply-adds"
            plot_curves(curves, docs / picture, x=axis, y="test top-1 accuracy (%)")
            lines += [f"![Test accuracy within a budget, by method]({picture})", ""]
    if group == "regime":
        regime = _regime(claims, store)
        if regime:
            plot_regime(regime, docs / picture)
            lines += [f"![Difference over the share of the images]({picture})", ""]
    return [*lines, *_commands(claims, scale)]


def _number(claim: Claim, store: Store) -> str:
    found = store.verdict(claim)
    if found.mean is None:
        return ""
    text = f"{found.mean:+.1f}" + (f" ± {found.half:.1f}" if found.num_seeds > 1 else "")
    return f"{text} (margin {claim.margin:+g})" if claim.margin else text


def _verdict(claim: Claim, store: Store) -> str:
    found = store.verdict(claim)
    wanted = max(found.num_seeds, len(store.wanted_seeds(claim)))
    seeds = f"{found.num_seeds} of {wanted} seeds"
    return f"{found.word} ({seeds})" if found.word == UNFINISHED else f"{found.word}, {seeds}"


def _curves(claims: Sequence[Claim], store: Store) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    budgets = dict.fromkeys(budget for claim in claims for budget in claim.budgets)
    for title, (entry, claim) in entries_of(claims).items():
        if len(claim.budgets) < 2:
            continue
        points: dict[float, list[float]] = {}
        for config in budgets:
            values = store.at(entry, claim, config)
            if values:
                rows = [row for found in store.rows(entry).values() for row in found]
                budget = budget_of(config, rows) or _macs(claims, config, store)
                if budget is not None:
                    points[budget / 1e6] = values
        if points:
            curves[title] = points
    return curves


def _macs(claims: Sequence[Claim], config: tuple[float, int], store: Store) -> int | None:
    every = (entry for claim in claims for entry in (claim.ours, claim.theirs))
    rows = [row for entry in every for found in store.rows(entry).values() for row in found]
    return budget_of(config, rows)


def _regime(claims: Sequence[Claim], store: Store) -> dict[str, Curve]:
    """Differences over the share of the images, for every budget by itself."""
    curves: dict[str, dict[float, list[float]]] = {}
    for claim in claims:
        recipe = claim.ours.runs[0].recipe_of(0)
        for place, (width, side) in enumerate(claim.budgets):
            pairs = [found[place] for found in store.scores(claim).values()]
            if not pairs:
                continue
            where = f" at {width:g}x{side}" if len(claim.budgets) > 1 else ""
            title = f"{claim.ours.title} - {claim.theirs.title}{where}, {recipe.model.name}"
            values = [mine - other for mine, other in pairs]
            curves.setdefault(title, {})[recipe.data.train_share] = values
    return dict(curves)


def _commands(claims: Sequence[Claim], scale: Scale) -> list[str]:
    common = _common(claims, scale)
    lines = command_lines(claims, common=common)
    start = ["<details><summary>runs</summary>", "", "```sh", f'SET="{common}"']
    return [*start, *lines, "```", "", "</details>", ""]


def command_lines(claims: Sequence[Claim], *, common: str = "") -> list[str]:
    """The command line of every run, seed 0.

    Args:
        claims: Whose runs.
        common: Settings that the reader finds in `$SET`, in one text.
    """
    lines: list[str] = []
    places: dict[StudyRun, str] = {}
    for claim in claims:
        for run in claim.runs():
            if run in places:
                continue
            places[run] = f"run{len(places) + 1}"
            before = {
                name: Path(_network(places[earlier], earlier))
                for name, earlier in (("init", run.init), ("teacher", run.teacher))
                if earlier is not None
            }
            words = run.words(0, data=run.data, common=common, **before)
            lines.append(f"{words} --out {places[run]}")
    return lines


def _network(place: str, run: StudyRun) -> str:
    """Directory of a run's last network."""
    count = len(run.recipe_of(0).models)
    return place if count == 1 else f"{place}/network{count}"


def _common(claims: Sequence[Claim], scale: Scale) -> str:
    """Settings that all runs of the scale share."""
    runs = [run for claim in claims for run in claim.runs()]
    known = [s for s in scale.common if all(s in run.settings for run in runs)]
    return " ".join(known)
