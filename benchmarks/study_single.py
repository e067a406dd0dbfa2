"""Claims about one network that runs at many budgets, or is boosted by its own sub-networks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.study_scales import Scale
from benchmarks.study_values import ASKED_HERE, Claim, Config, Entry, StudyRun

BUDGETS: tuple[Config, ...] = ((1.0, 32), (0.75, 28), (0.5, 24), (0.25, 20))
FULL: tuple[Config, ...] = ((1.0, 32),)
TOP_SIDE: tuple[Config, ...] = (*BUDGETS[:3], (0.25, 32))
"""Budgets within which the top resolution fits at some width: never within the smallest one."""
SIDES = (32, 28, 24, 20)
SAME_IMAGES = f"data.resolution={SIDES[0]}"
"""Networks alone at a lower resolution see what sub-networks see there."""


def elastic(scale: Scale, method: str, *settings: str, low: float = 0.25, **words: Any) -> StudyRun:
    """A network of all widths from a lower bound, at four resolutions."""
    high_configs = ((1.0, 32), (1.0, 28), (1.0, 20))
    return scale.run(
        *settings,
        method=method,
        width_range=(low, 1.0),
        resolutions=SIDES,
        configs=scale.elastic if low == 0.25 else high_configs,
        **words,
    )


def full_alone(scale: Scale, **words: Any) -> StudyRun:
    """Two equal full networks, each by itself: the baseline is their mean; one can teach."""
    return scale.run(f"peers=[{{model: {{name: {scale.network}}}}}]", resolutions=(32,), **words)


def _alone(scale: Scale) -> Entry:
    narrower = (
        scale.run(
            SAME_IMAGES,
            width_range=(width, width),
            resolutions=(side,),
            configs=((width, side),),
        )
        for width, side in BUDGETS[1:]
    )
    return Entry(title="trained alone", runs=(full_alone(scale), *narrower))


def frontier(scale: Scale) -> list[Claim]:
    """One network against others at four budgets."""
    mutual = Entry(title="MutualNet", runs=(elastic(scale, "mutualnet"),))
    us_net = elastic(scale, "us_net")
    shared = elastic(scale, "us_net_multi_scale")

    def claim(
        name: str, source: str, says: str, theirs: Entry, budgets: tuple[Config, ...] = BUDGETS
    ) -> Claim:
        return Claim(
            name=name,
            group="frontier",
            source=source,
            says=says,
            ours=mutual,
            theirs=theirs,
            budgets=budgets,
        )

    return [
        claim(
            "us_net",
            "MutualNet, fig. 4",
            "above US-Net (its top resolution) at every budget: MobileNet v1 +0.7 at 569 M, "
            "+2.7 at 150 M",
            Entry(title="US-Net", runs=(us_net,), sides=(32,)),
            budgets=TOP_SIDE,
        ),
        claim(
            "us_net_plus",
            "MutualNet, fig. 6",
            "above US-Net tested at all resolutions (US-Net+): MobileNet v1 +0.6 at 569 M, "
            "+9.2 at 13 M",
            Entry(title="US-Net+", runs=(us_net,)),
        ),
        claim(
            "alone",
            "MutualNet, fig. 5",
            "above networks trained alone for each budget: MobileNet v1 +1.8 at 569 M, "
            "+1.1 at 239 M, +2.7 at 13 M",
            _alone(scale),
        ),
        Claim(
            name="full_width",
            group="frontier",
            source="MutualNet, figs. 4 and 5",
            says="the full network itself gains: MobileNet v1 70.6 to 72.4, v2 71.8 to 72.9",
            ours=Entry(title="MutualNet, full", runs=mutual.runs, configs=FULL),
            theirs=Entry(title="alone, full", runs=(full_alone(scale),)),
            budgets=FULL,
        ),
        claim(
            "us_net_multi_scale",
            "MutualNet, fig. 7",
            "above US-Net trained with multi-scale augmentation: MobileNet v2 +1.1 at 300 M, "
            "+0.2 at 154 M, +0.7 at 57 M",
            Entry(title="US-Net, multi-scale", runs=(shared,)),
        ),
        _full_width_longer(scale),
    ]


def _full_width_longer(scale: Scale) -> Claim:
    """Whether the full network of MutualNet, which has more to learn, lacks steps."""
    longer = 2 * scale.epochs
    ours, theirs = elastic(scale, "mutualnet", epochs=longer), full_alone(scale, epochs=longer)
    return Claim(
        name="full_width_longer",
        group="frontier",
        source=ASKED_HERE,
        says=f"with twice the steps ({longer} epochs) the full network gains; asked after "
        "`full_width` was left open",
        ours=Entry(title="MutualNet, full, twice the epochs", runs=(ours,), configs=FULL),
        theirs=Entry(title="alone, full, twice the epochs", runs=(theirs,)),
        budgets=FULL,
    )


def booster(scale: Scale) -> list[Claim]:
    """Widths [0.9, 1] as a regulariser of the full network."""
    boosted = Entry(
        title="MutualNet [0.9, 1]", runs=(elastic(scale, "mutualnet", low=0.9),), configs=FULL
    )
    alone, longer = full_alone(scale), 4 * scale.epochs

    def claim(name: str, source: str, says: str, theirs: Entry) -> Claim:
        return Claim(
            name=name,
            group="boost",
            source=source,
            says=says,
            ours=boosted,
            theirs=theirs,
            budgets=FULL,
        )

    def of(title: str, *settings: str, **words: Any) -> Entry:
        return Entry(title=title, runs=(scale.run(*settings, resolutions=(32,), **words),))

    text = "above; WRN-28-10, CIFAR-10 and -100: MutualNet 97.2 and 83.8, "
    table = "MutualNet, table 4"
    return [
        claim(
            "boost_alone",
            table,
            f"{text}alone 96.1 and 81.2",
            Entry(title="alone", runs=(alone,)),
        ),
        claim(
            "boost_multi_scale",
            "MutualNet, table 3",
            "above; MobileNet v2: alone 71.8, multi-scale augmentation 72.0, MutualNet with widths "
            "from 0.7 72.9",
            Entry(
                title="multi-scale augmentation",
                runs=(scale.run(method="multi_scale", resolutions=SIDES),),
            ),
        ),
        claim(
            "boost_cutout",
            table,
            f"{text}Cutout 96.9 and 81.6",
            of("Cutout", f"data.cutout={scale.cutout}"),
        ),
        claim(
            "boost_mixup",
            ASKED_HERE,
            "above Mixup; the README of MutualNet has both level on CIFAR-10 (97.3), and MutualNet "
            "above on CIFAR-100 (83.8 and 82.5)",
            of("Mixup", "data.mixup_alpha=1.0"),
        ),
        claim(
            "boost_cutmix",
            ASKED_HERE,
            "above CutMix; the README of MutualNet has both level: ResNet-50 78.6",
            of("CutMix", "data.cutmix_alpha=1.0"),
        ),
        claim(
            "boost_autoaugment",
            ASKED_HERE,
            "above AutoAugment; the paper has MutualNet below on CIFAR-10 (97.2 and 97.4), above "
            "on CIFAR-100 (83.8 and 82.9)",
            of("AutoAugment", "data.policy=autoaugment"),
        ),
        claim(
            "boost_label_smoothing",
            ASKED_HERE,
            "above label smoothing 0.1",
            of("label smoothing", "label_smoothing=0.1"),
        ),
        claim(
            "boost_kd",
            "MutualNet, table 5",
            "above KD, there from a stronger teacher, here from an equal one: ResNet-50 alone "
            "76.5, KD 76.5, MutualNet 78.6",
            of("KD", teacher=alone),
        ),
        claim(
            "boost_longer",
            ASKED_HERE,
            f"above training alone for as long: its step costs four times as much, so {longer} "
            "epochs; asked after `boost_alone` was decided",
            of("alone, four times the epochs", epochs=longer),
        ),
    ]


def widths(scale: Scale) -> list[Claim]:
    """A higher lower bound of widths."""

    def entry(low: float) -> Entry:
        run = elastic(scale, "mutualnet", low=low)
        return Entry(title=f"widths [{low:g}, 1]", runs=(run,), configs=FULL)

    def claim(low: float, than: float, source: str, says: str) -> Claim:
        return Claim(
            name=f"lower_bound_{round(100 * low)}"
            + (f"_{round(100 * than)}" if than > 0.25 else ""),
            group="widths",
            source=source,
            says=says,
            ours=entry(low),
            theirs=entry(than),
            budgets=FULL,
        )

    paper = "MutualNet, fig. 8 and sec. 4.2"
    text = "MobileNet v2 at 300 M: [0.7, 1] 72.9, [0.8, 1] 73.2, [0.9, 1] 73.6"
    return [
        claim(0.9, 0.25, ASKED_HERE, "the full network gains with a higher lower bound"),
        claim(0.7, 0.25, ASKED_HERE, "the same"),
        claim(0.5, 0.25, ASKED_HERE, "the same"),
        claim(0.9, 0.7, paper, f"the full network gains with a higher lower bound; {text}"),
    ]


def targets(scale: Scale) -> list[Claim]:
    """The largest network's output or the labels, for the narrower ones."""
    off, longer = "method.distill=false", 2 * scale.epochs
    paper = "MutualNet supplement, KL or labels"

    def entry(title: str, *settings: str, **words: Any) -> Entry:
        method, sides = ("us_net", (32,)) if title.startswith("US-Net") else ("mutualnet", None)
        return Entry(title=title, runs=(elastic(scale, method, *settings, **words),), sides=sides)

    def claim(
        name: str, source: str, says: str, ours: Entry, theirs: Entry, margin: float = 0.0
    ) -> Claim:
        return Claim(
            name=name,
            group="targets",
            source=source,
            says=says,
            ours=ours,
            theirs=theirs,
            budgets=TOP_SIDE if ours.sides else BUDGETS,
            margin=margin,
        )

    def longer_claim(name: str, method: str) -> Claim:
        return claim(
            f"{name}_longer",
            ASKED_HERE,
            f"with twice the steps ({longer} epochs) KL is above labels; asked after labels were "
            f"ahead in the first seed of `{name}`",
            entry(f"{method}, KL, twice the epochs", epochs=longer),
            entry(f"{method}, labels, twice the epochs", off, epochs=longer),
        )

    return [
        claim(
            "targets_us_net",
            paper,
            "US-Net loses about 2 points when narrower networks learn from labels",
            entry("US-Net, KL"),
            entry("US-Net, labels", off),
        ),
        claim(
            "targets_mutualnet",
            paper,
            "MutualNet loses little so: read as less than 1 point",
            entry("MutualNet, labels", off),
            entry("MutualNet, KL"),
            margin=-1.0,
        ),
        longer_claim("targets_us_net", "US-Net"),
        longer_claim("targets_mutualnet", "MutualNet"),
        replace(
            claim(
                "alone_labels",
                ASKED_HERE,
                "with labels for the narrower ones MutualNet is above networks trained alone; "
                "asked after seed 0 of both was seen",
                entry("MutualNet, labels", off),
                _alone(scale),
            ),
            seeds=(1, 2, 3),
            more_seeds=(4, 5),
        ),
    ]


def scaling(scale: Scale) -> list[Claim]:
    """Widths [1, 2] and larger images against compound scaling at the same cost."""
    # Width 1 is half of the network; its own resolution is 22 px, as 224 is to 320.
    scaled = scale.run(
        method="mutualnet",
        width_range=(1.0, 2.0),
        resolutions=(32, 28, 26, 22),
        configs=scale.scaled,
    )
    width = scale.compound_width
    compound = scale.run(
        SAME_IMAGES,
        model=scale.compound,
        width_range=(width, width),
        resolutions=(28,),
        configs=((width, 28),),
    )
    return [
        Claim(
            name="scaling",
            group="scaling",
            source="MutualNet, table 2",
            says="MobileNet v1 at 2.3 G: 77.1 at width 1.6 and 288 px, 75.6 by compound scaling",
            ours=Entry(title="MutualNet [1, 2]", runs=(scaled,)),
            theirs=Entry(title="compound scaling, alone", runs=(compound,)),
            budgets=((width, 28),),
        )
    ]


def transfer(scale: Scale) -> list[Claim]:
    """Trained on one set, fine-tuned by the same method on another; the same with more steps."""
    mutual, us_net, plain = _transferred(scale, 1)
    more_mutual, more_us_net, more_plain = _transferred(scale, 3)
    asked = (
        "with three times the epochs of both stages above {}; asked after the first seed of "
        "`{}`, whose networks score below those of the first section, trained from scratch"
    )
    claim = partial(Claim, group="transfer", budgets=BUDGETS)
    return [
        claim(
            name="transfer_us_net",
            source="MutualNet, fig. 9",
            says="above US-Net: ImageNet to CIFAR-100 +1.4 at 569 M, +10.5 at 21 M",
            ours=mutual,
            theirs=us_net,
        ),
        claim(
            name="transfer_plain",
            source="MutualNet, fig. 9",
            says="above plain networks: ImageNet to CIFAR-100 +1.2 at 569 M, +14.4 at 21 M",
            ours=mutual,
            theirs=plain,
        ),
        claim(
            name="transfer_us_net_longer",
            source=ASKED_HERE,
            says=asked.format("US-Net", "transfer_us_net"),
            ours=more_mutual,
            theirs=more_us_net,
        ),
        claim(
            name="transfer_plain_longer",
            source=ASKED_HERE,
            says=asked.format("plain networks", "transfer_plain"),
            ours=more_mutual,
            theirs=more_plain,
        ),
    ]


def _transferred(scale: Scale, times: int) -> tuple[Entry, Entry, Entry]:
    """MutualNet, US-Net and plain networks, with `times` the scale's epochs in both stages."""
    title = "transferred" if times == 1 else f"transferred, {times} times the epochs"

    def run(method: str, low: float, configs: tuple[Config, ...]) -> StudyRun:
        words: dict[str, Any] = {
            "method": method,
            "width_range": (low, 1.0) if method != "independent" else (low, low),
            "resolutions": SIDES,
        }
        # Independent runs train the top resolution alone and are tested at all.
        sides = () if method != "independent" else (f"space.resolutions={list(SIDES)}",)
        share = f"data.train_share={scale.source_share:g}"
        first = scale.run(
            share,
            *sides,
            data=scale.source_data,
            recipe=scale.recipe.replace(scale.data, scale.source_data),
            epochs=times * scale.source_epochs,
            configs=((low if method == "independent" else 1.0, 32),),
            **words,
        )
        return scale.run(
            "optimizer.lr=0.02",
            *sides,
            init=first,
            epochs=times * scale.finetune_epochs,
            configs=configs,
            **words,
        )

    plain = tuple(
        run("independent", width, tuple((width, side) for side in (32, 28, 24, 20)))
        for width in (1.0, 0.75, 0.5, 0.25)
    )
    return (
        Entry(title=f"MutualNet, {title}", runs=(run("mutualnet", 0.25, scale.elastic),)),
        Entry(title=f"US-Net, {title}", runs=(run("us_net", 0.25, scale.elastic),)),
        Entry(title=f"plain, {title}", runs=plain),
    )
