"""Residual blocks that can be left out are found, and what cannot stays with its reason."""

from __future__ import annotations

import re

import pytest
import timm
from torch import nn

from mutualnet.space import ElasticSpace
from mutualnet.supernet.depth_plan import BlockStage
from mutualnet.supernet.supernet import Supernet
from tests.zoo import small_dense


class _Add(nn.Module):
    """x + f(x)."""

    def __init__(self, channels: int = 16, name: str = "conv") -> None:
        super().__init__()
        self.add_module(name, nn.Conv2d(channels, channels, 3, padding=1))
        self.inner = name

    def forward(self, x):
        return x + getattr(self, self.inner)(x)


class _Scaled(_Add):
    def forward(self, x, scale=None):
        return x * 0.5 + self.conv(x) if scale is None else x + scale * self.conv(x)


class _Net(nn.Module):
    """A stem, blocks that run in some way, and a classifier."""

    def __init__(self, blocks, run=None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(16, 4)
        self.run = run or (lambda block, x: block(x))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = self.run(block, x)
        return self.head(x.mean((2, 3)))


def _space(*depths: float) -> ElasticSpace:
    return ElasticSpace(resolutions=(8,), depths=depths or (1.0,))


def test_children_of_a_module_list_are_blocks():
    net = Supernet(_Net([_Add() for _ in range(4)]), _space(1, 0.5))
    assert net.plan.depth.stages == (
        BlockStage(name="blocks", blocks=tuple(f"blocks.{i}" for i in range(4))),
    )


def _with_shared() -> nn.Module:
    blocks = [_Add() for _ in range(4)]
    blocks[3].conv.weight = blocks[1].conv.weight
    return _Net(blocks)


def _repeated() -> nn.Module:
    block = _Add()
    return _Net([_Add(), block, block])


@pytest.mark.parametrize(
    ("make", "removable", "reason"),
    [
        (_with_shared, [("blocks.1", "blocks.2")], "blocks.3: it shares its parameters with bl"),
        (
            lambda: _Net([_Add(), _Add(), _Add()], lambda b, x: b(x) * b.conv.weight.abs().mean()),
            [],
            "no residual block",
        ),
        (
            lambda: _Net([_Add(), _Scaled(), _Scaled()]),
            [],
            "no residual block",
        ),
        (
            lambda: _Net([_Add(), _Add()], lambda b, x: (b(x), x * b.conv.weight.mean())[0]),
            [],
            r"blocks.1: without it the network fails \('Identity' object has no attribute 'conv'",
        ),
        (lambda: _Net([nn.Conv2d(16, 16, 3, padding=1, groups=16)] * 1), [], "no residual block"),
        (
            lambda: _Net([nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16)), nn.ReLU()]),
            [],
            "no residual block",
        ),
    ],
)
def test_what_cannot_be_left_out_stays_and_the_report_says_why(make, removable, reason):
    net = Supernet(make(), _space())
    assert [stage.blocks for stage in net.plan.depth.stages] == removable, net.report()
    assert re.search(reason, net.report()), net.report()


def test_a_block_that_runs_twice_stays():
    net = Supernet(_repeated(), _space())
    assert net.plan.depth.stages == ()


def test_blocks_inside_of_blocks_count_where_there_are_more():
    def group(count: int) -> nn.Module:
        class Group(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body = nn.Sequential(*[_Add() for _ in range(count)])

            def forward(self, x):
                return x + self.body(x)

        return Group()

    few = Supernet(_Net([group(3), group(3)]), _space())
    assert [s.name for s in few.plan.depth.stages] == ["blocks.0.body", "blocks.1.body"]
    kind = type("Pair", (nn.Module,), {"forward": lambda self, x: x + self.body(x)})
    blocks = []
    for _ in range(3):
        block = kind()
        block.body = nn.Sequential(_Add(), _Add())
        blocks.append(block)
    many = Supernet(_Net(blocks), _space())
    assert [s.blocks for s in many.plan.depth.stages] == [("blocks.0", "blocks.1", "blocks.2")]


@pytest.mark.parametrize(
    "make",
    [lambda: timm.create_model("mobilenetv1_100", num_classes=4), lambda: small_dense().model],
)
def test_networks_without_such_blocks_refuse_less_depth_in_one_line(make):
    model = make()
    with pytest.raises(ValueError, match="no residual block of the model can be left out") as error:
        Supernet(model, ElasticSpace(resolutions=(64,), depths=(1, 0.5)))
    assert "\n" not in str(error.value)
    net = Supernet(model, ElasticSpace(resolutions=(64,)))
    assert "no residual block can be left out" in net.report()
