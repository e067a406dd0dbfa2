"""What a plan says of itself, word by word."""

from __future__ import annotations

from mutualnet.supernet.channel_group import ChannelGroup
from mutualnet.supernet.channel_plan import ChannelPlan, Inelastic, WidthStage
from mutualnet.supernet.channel_rules import ChannelRule
from mutualnet.supernet.depth_plan import BlockStage, DepthPlan, LastingBlock
from mutualnet.supernet.plan_report import describe_plan


def test_every_line_of_a_plan():
    plan = ChannelPlan(
        groups=(
            ChannelGroup(name="stem", size=16, layers=("stem", "skip")),
            ChannelGroup(name="wide", size=96, layers=("wide",), step=4, rule=ChannelRule(ratio=6)),
        ),
        tensors={"stem.weight": {}},
        inelastic=(Inelastic(layers=("head", "last"), reason="its channels are the output"),),
        carried=("norm.mean",),
        stages=(WidthStage(side=56, groups=(0, 1)),),
        depth=DepthPlan(
            stages=(BlockStage(name="", blocks=("a", "b", "c")),),
            lasting=(LastingBlock(name="d", reason="it does not add to its input"),),
        ),
    )
    assert describe_plan(plan, "net", "backbone").splitlines() == [
        "net: 2 elastic channel groups, 2 fixed layers",
        "  shared   all outside of backbone, by every sub-network",
        "  elastic  stem (+1 tied): 16 channels, plain",
        "  elastic  wide: 96 channels, ratio 6, in steps of 4",
        "  fixed    head, last: its channels are the output",
        "  carried  norm.mean: a part of the full network's, which calibration does not renew",
        "  stage    56 px: stem, wide",
        "  depth    the model: a stays; b, c can be left out, the last ones first",
        "  lasting  d: it does not add to its input",
    ]


def test_a_plan_of_nothing():
    assert describe_plan(ChannelPlan(groups=(), tensors={}), "net").splitlines() == [
        "net: 0 elastic channel groups, 0 fixed layers",
        "  depth    no residual block can be left out",
    ]
