"""Claims about networks that teach each other, and about what decides whether they gain."""

from __future__ import annotations

from typing import Any

from benchmarks.study_scales import Scale
from benchmarks.study_values import ASKED_HERE, Claim, Config, Entry, StudyRun

IN_TURN = "teaching.update=alternating"
_TEXT = "WRN-28-10 pair, CIFAR-100 error: independent 18.7, DML 17.9, DCM 16.6"
_DCM = "DCM, CIFAR-100"
_ABLATION = "DCM, ablations"


class _Pairs:
    """Runs of pairs, by method."""

    def __init__(self, scale: Scale, suffix: str = "", *settings: str, **words: Any) -> None:
        self.scale = scale
        self.suffix = suffix
        self.settings = settings
        self.words = words

    def __call__(self, title: str, teaching: str, *settings: str) -> Entry:
        run = self.scale.pair(*self.settings, *settings, teaching=teaching, **self.words)
        return Entry(title=title + self.suffix, runs=(run,))

    def independent(self) -> Entry:
        return self("independent", "independent")

    def dml(self) -> Entry:
        return self("DML", "dml", IN_TURN)

    def dcm(self, title: str = "DCM", *settings: str) -> Entry:
        return self(title, "dcm", *settings)


def _claim(
    scale: Scale, name: str, group: str, source: str, says: str, ours: Entry, theirs: Entry
) -> Claim:
    return Claim(
        name=name,
        group=group,
        source=source,
        says=says,
        ours=ours,
        theirs=theirs,
        budgets=((1.0, scale.pair_side),),
    )


def peers(scale: Scale) -> list[Claim]:
    """Pairs of equal networks: the mean of both, against other pairs."""
    of = _Pairs(scale)
    independent, dml, dcm = of.independent(), of.dml(), of.dcm()
    joint, dks = of("DML, joint", "dml"), of("DKS", "dks")
    supervised = of("deep supervision", "deep_supervision")
    student = scale.pair(teaching="kd", teacher=independent.runs[0], count=1)
    kd = Entry(title="KD", runs=(student,))

    def claim(name: str, source: str, says: str, ours: Entry, theirs: Entry) -> Claim:
        return _claim(scale, name, "peers", source, says, ours, theirs)

    return [
        claim("dml", _DCM, f"DML above independent; {_TEXT}", dml, independent),
        claim("dcm_dml", _DCM, f"DCM above DML; {_TEXT}", dcm, dml),
        claim("dcm", _DCM, f"DCM above independent; {_TEXT}", dcm, independent),
        claim("dcm_joint_dml", ASKED_HERE, "DCM above DML in one joint step", dcm, joint),
        claim(
            "dks",
            "DKS, CIFAR-100",
            "DKS above independent: WRN-28-10 error 18.7 to 17.2",
            dks,
            independent,
        ),
        claim("dcm_dks", "DCM and DKS", "DCM 16.6 below DKS 17.2 in error", dcm, dks),
        claim(
            "dcm_supervision",
            _ABLATION,
            "DCM above deep supervision alone, which gives 9 % of the gain",
            dcm,
            supervised,
        ),
        claim("dml_kd", ASKED_HERE, "DML above KD from an equal, trained network", dml, kd),
    ]


def heads(scale: Scale) -> list[Claim]:
    """Which classifiers teach which."""
    of = _Pairs(scale)
    dcm = of.dcm()

    def claim(name: str, says: str, theirs: Entry, ours: Entry = dcm) -> Claim:
        return _claim(scale, name, "heads", _ABLATION, says, ours, theirs)

    same = of.dcm("same stage only", "teaching.different_stage_weight=0.0")
    different = of.dcm("different stages only", "teaching.same_stage_weight=0.0")
    return [
        claim("stages", "different stages contribute more than the same ones", same, different),
        claim(
            "heads_one",
            "two auxiliary heads above one",
            of.dcm("one head", "teaching.head_names=[C2]"),
        ),
        claim(
            "heads_apfc",
            "designed heads above pooled ones",
            of.dcm("APFC heads", "teaching.head_variant=apfc"),
        ),
        claim(
            "heads_narrow",
            "designed heads above half as wide ones",
            of.dcm("narrow heads", "teaching.head_variant=narrow"),
        ),
        claim(
            "heads_three",
            "two auxiliary heads above three",
            of.dcm("three heads", "teaching.head_names=[C2, C3, C4]"),
        ),
    ]


def conditions(scale: Scale) -> list[Claim]:
    """Wrong labels, dropout, unequal networks."""
    claims = []
    for share in (0.8, 0.4):
        of = _Pairs(scale, f", {share:.0%} noise", f"data.label_noise={share:g}")
        claims.append(
            _claim(
                scale,
                f"noise_{round(100 * share)}",
                "noise",
                _ABLATION,
                f"DCM is more robust to wrong labels than DML; here {share:.0%} of them are wrong",
                of.dcm(),
                of.dml(),
            )
        )
    drop = _Pairs(
        scale,
        ", dropout",
        "model.kwargs={dropout: 0.3}",
        "peers.0.model.kwargs={dropout: 0.3}",
    )
    unequal = _Pairs(scale, f" with {scale.second_network}", other=scale.second_network)
    mixed = "DCM, mixed pairs"
    text = "WRN-28-10 and MobileNet, error: independent 18.7, 26.3; DML 17.2, 23.9; DCM 16.8, 21.4"
    return [
        *claims,
        _claim(
            scale,
            "dropout",
            "conditions",
            _ABLATION,
            "DCM adds to dropout 0.3",
            drop.dcm(),
            drop.independent(),
        ),
        _claim(scale, "backbones", "conditions", mixed, text, unequal.dcm(), unequal.dml()),
        _claim(
            scale,
            "backbones_dml",
            "conditions",
            mixed,
            text,
            unequal.dml(),
            unequal.independent(),
        ),
    ]


def _slimmable(scale: Scale) -> dict[str, Any]:
    top, *_, low = scale.pair_sides
    middle = scale.pair_sides[2]
    return {
        "method": "mutualnet",
        "width_range": (0.25, 1.0),
        "resolutions": scale.pair_sides,
        "configs": ((1.0, top), (0.5, middle), (0.25, low)),
    }


def both(scale: Scale) -> list[Claim]:
    """Two slimmable networks that teach each other, against either idea alone."""
    words = _slimmable(scale)
    top = ((1.0, scale.pair_side),)
    pair = scale.pair(teaching="dcm", **words)
    alone = scale.pair(count=1, **words)
    budgets: tuple[Config, ...] = words["configs"]
    return [
        Claim(
            name="both_mutualnet",
            group="both",
            source=ASKED_HERE,
            says="DCM between slimmable networks above MutualNet by itself",
            ours=Entry(title="DCM x MutualNet", runs=(pair,)),
            theirs=Entry(title="MutualNet", runs=(alone,)),
            budgets=budgets,
        ),
        Claim(
            name="both_dcm",
            group="both",
            source=ASKED_HERE,
            says="and its full network above DCM by itself",
            ours=Entry(title="DCM x MutualNet, full", runs=(pair,), configs=top),
            theirs=_Pairs(scale).dcm(),
            budgets=top,
        ),
    ]


def regime(scale: Scale) -> list[Claim]:
    """The first claims again, with more images in as many steps, and two widths of network."""
    claims = []
    for share, epochs in scale.shares:
        for network in (scale.network, scale.small_network):
            claims += _regime(scale, share, epochs, network)
    return claims


def _regime(scale: Scale, share: float, epochs: int, network: str) -> list[Claim]:
    own = () if share == scale.train_share else (f"data.train_share={share:g}",)
    words = _slimmable(scale)
    low = scale.pair_sides[-1]
    name = f"{network}_{share:g}".replace(".", "")
    text = f"{network}, {share:.0%} of the images"

    common: dict[str, Any] = {"network": network, "epochs": epochs, "weight_init": "default"}

    def run(*settings: str, **more: Any) -> StudyRun:
        return scale.pair(*own, *settings, count=1, **common, **more)

    of = _Pairs(scale, "", *own, **common)
    narrow = run(
        f"data.resolution={scale.pair_side}",  # what sub-networks see at the low resolution
        width_range=(0.25, 0.25),
        resolutions=(low,),
        configs=((0.25, low),),
    )
    single = of.independent()
    return [
        Claim(
            name=f"regime_mutualnet_{name}",
            group="regime",
            source=ASKED_HERE,
            says=f"MutualNet above alone, full and narrowest: {text}",
            ours=Entry(title="MutualNet", runs=(run(**words),)),
            theirs=Entry(title="trained alone", runs=(*single.runs, narrow)),
            budgets=((1.0, scale.pair_side), (0.25, low)),
        ),
        _claim(
            scale,
            f"regime_dml_{name}",
            "regime",
            ASKED_HERE,
            f"DML above independent: {text}",
            of.dml(),
            single,
        ),
    ]
