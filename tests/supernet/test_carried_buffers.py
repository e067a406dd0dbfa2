"""Statistics outside of BatchNorm layers are named: narrow networks take over the full one's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from mutualnet.space import ElasticSpace
from mutualnet.supernet.supernet import Supernet


class FunctionalNorm(nn.Module):
    """A batch norm written by hand, with statistics and a mask as buffers."""

    def __init__(self) -> None:
        super().__init__()
        for name, value in (("mean", torch.zeros(16)), ("var", torch.ones(16))):
            self.register_buffer(name, value)
        self.register_buffer("mask", torch.ones(16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, training=self.training) * self.mask


class Replacing(nn.Module):
    """A centre that moves with the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.centre = 0.9 * self.centre + 0.1 * x.mean((0, 2, 3))[:, None, None]
        return x - self.centre


def _between(middle: nn.Module) -> nn.Module:
    head = (nn.Conv2d(16, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 16, 3), middle, *head)


MAKERS = {
    "instance norm": (
        lambda: nn.InstanceNorm2d(16, track_running_stats=True),
        ("1.running_mean", "1.running_var"),
    ),
    "functional": (FunctionalNorm, ("1.mean", "1.var")),
    "replaced": (Replacing, ("1.centre",)),
    "spectral norm": (
        lambda: parametrizations.spectral_norm(nn.Conv2d(16, 16, 1)),
        ("1.parametrizations.weight.0._u", "1.parametrizations.weight.0._v"),
    ),
}


@pytest.mark.parametrize("what", sorted(MAKERS))
def test_statistics_that_nothing_calibrates_are_named(what, caplog):
    make, names = MAKERS[what]
    net = Supernet(_between(make()), ElasticSpace(resolutions=(8,)))
    assert net.plan.carried == names
    (warning,) = caplog.messages
    assert f"their part of the full network's {', '.join(names)}, which training" in warning
    lines = [line for line in net.report().splitlines() if line.startswith("  carried  ")]
    assert [line.split()[1].rstrip(":") for line in lines] == list(names)


class Masked(nn.Module):
    """A buffer that nothing writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


@pytest.mark.parametrize("make", [nn.BatchNorm2d, nn.InstanceNorm2d, lambda _: Masked()])
def test_what_is_calibrated_or_never_written_is_not(make, caplog):
    net = Supernet(_between(make(16)), ElasticSpace(resolutions=(8,)))
    assert net.plan.carried == ()
    assert not caplog.messages


def test_in_an_elastic_part_names_are_the_models():
    model = nn.ModuleDict({"body": _between(Replacing()), "rest": nn.Linear(4, 4)})
    net = Supernet(
        model, ElasticSpace(resolutions=(8,)), elastic_part="body",
        example_input=torch.zeros(1, 3, 8, 8),
    )  # fmt: skip
    assert net.plan.carried == ("body.1.centre",)
