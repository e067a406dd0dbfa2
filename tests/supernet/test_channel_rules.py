"""Channel counts against the papers' lists."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.channel_rules import (
    ChannelRule,
    architecture_name,
    make_divisible,
    rules_for,
)
from mutualnet.supernet.supernet import Supernet


def _slow_make_divisible(value: float) -> int:
    """The nearest multiple of 8 (halves up), at least 1, one step up if more than 10 % is lost."""
    best = min(range(0, 10_000, 8), key=lambda n: (abs(n - value), -n))
    best = max(best, 1)
    return best + 8 if best < 0.9 * value else best


@pytest.mark.parametrize("value", [1, 1.6, 3, 3.9, 4, 8, 11, 12, 28.8, 33, 57.6, 100, 921.6, 1024])
def test_make_divisible_rounds_as_written_out(value):
    assert make_divisible(value) == _slow_make_divisible(value)


def test_a_count_is_never_above_the_full_one_and_full_at_share_one():
    for size in (3, 4, 6, 10, 16, 20, 1000):
        for rule in (ChannelRule(), ChannelRule(ratio=0.25), ChannelRule(ratio=6)):
            counts = [rule.count(size, share / 50) for share in range(1, 51)]
            assert counts[-1] == size
            assert min(counts) >= 1
            assert max(counts) == size


def test_steps_keep_blocks_of_channels_together():
    assert [ChannelRule().count(96, share, step=32) for share in (0.1, 0.4, 0.6, 1.0)] == [
        32,
        32,
        64,
        96,
    ]


def test_a_fixed_group_keeps_its_channels():
    assert ChannelRule(fixed=True).count(1280, 0.35) == 1280


def test_a_ratio_must_be_positive():
    with pytest.raises(ValueError, match="ratio must be > 0, got 0"):
        ChannelRule(ratio=0)


def _outputs(supernet: Supernet, width: float) -> dict[str, int]:
    module = supernet.extract(
        Subnet(width_mult=width, resolution=supernet.space.resolutions[0]), uncalibrated=True
    )
    convolutions = (nn.Conv2d, nn.Linear)
    return {n: m.weight.shape[0] for n, m in module.named_modules() if isinstance(m, convolutions)}


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (0.9, [32, 56, 112, 232, 464, 920]),
        (0.7, [24, 48, 88, 176, 360, 720]),
        (0.55, [16, 32, 72, 144, 280, 560]),
        (0.35, [16, 24, 48, 88, 176, 360]),
        (0.25, [8, 16, 32, 64, 128, 256]),
    ],
)
def test_mobilenet_v1_has_the_papers_channels(width, expected):
    supernet = Supernet(timm.create_model("mobilenetv1_100"), ElasticSpace(resolutions=(64,)))
    found = _outputs(supernet, width)
    ends = [found["conv_stem"], *(found[f"blocks.{stage}.0.conv_pw"] for stage in range(5))]
    assert ends == expected


MOBILENET_V2 = [
    (0.9, [32, 16, 24, 32, 56, 88, 144, 288]),
    (0.7, [24, 16, 16, 24, 48, 64, 112, 224]),
    (0.5, [16, 8, 16, 16, 32, 48, 80, 160]),
    (0.35, [16, 8, 8, 16, 24, 32, 56, 112]),
]


@pytest.mark.parametrize(("width", "expected"), MOBILENET_V2)
def test_mobilenet_v2_has_the_papers_channels_in_timm_and_torchvision(width, expected):
    space = ElasticSpace(resolutions=(64,))
    found = _outputs(Supernet(timm.create_model("mobilenetv2_100"), space), width)
    ends = [found["conv_stem"], found["blocks.0.0.conv_pw"]]
    ends += [found[f"blocks.{stage}.0.conv_pwl"] for stage in range(1, 7)]
    assert ends == expected
    for stage, inner in enumerate(expected[1:-1], 1):
        assert found[f"blocks.{stage}.0.conv_pw"] == 6 * inner
    assert found["conv_head"] == 1280

    other = _outputs(Supernet(torchvision.models.mobilenet_v2(weights=None), space), width)
    assert sorted(other.values()) == sorted(found.values())


@pytest.mark.parametrize("width", [0.9, 0.75, 0.25])
def test_resnet_50_has_a_quarter_inside_in_timm_and_torchvision(width):
    space = ElasticSpace(resolutions=(64,))
    found = _outputs(Supernet(timm.create_model("resnet50"), space), width)
    for stage, base in enumerate((256, 512, 1024, 2048), 1):
        outer = make_divisible(base * width)
        assert found[f"layer{stage}.1.conv3"] == outer
        assert found[f"layer{stage}.1.conv1"] == found[f"layer{stage}.1.conv2"] == outer // 4
    assert found["conv1"] == make_divisible(256 * width) // 4
    other = _outputs(Supernet(torchvision.models.resnet50(weights=None), space), width)
    assert sorted(other.values()) == sorted(found.values())


def test_names_tell_bottlenecks_from_basic_blocks():
    assert architecture_name(timm.create_model("resnet18")) == "resnet18"
    assert architecture_name(torchvision.models.resnet18(weights=None)) == "ResNet[BasicBlock]"
    assert architecture_name(torchvision.models.resnet50(weights=None)) == "ResNet[Bottleneck]"
    assert architecture_name(nn.Sequential()) == "Sequential"
    assert rules_for(torchvision.models.resnet18(weights=None)) == {}


def test_ones_own_rule_comes_first():
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.Conv2d(64, 2, 1))
    space = ElasticSpace(resolutions=(8,))
    supernet = Supernet(model, space, channel_rules={r"0": ChannelRule(fixed=True)})
    assert _outputs(supernet, 0.5) == {"0": 64, "2": 32, "3": 2}
    assert "0: 64 channels, fixed" in supernet.report()
    narrow = supernet.subnet(Subnet(width_mult=0.5, resolution=8))
    assert narrow(torch.zeros(1, 3, 8, 8)).shape[1] == 2


def test_a_rule_that_matches_nothing_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 2, 1))
    with pytest.raises(ValueError, match=r"rules must match the names of layers .* got 'layer9'"):
        Supernet(model, ElasticSpace(resolutions=(8,)), channel_rules={"layer9": ChannelRule()})


def test_the_old_name_of_channel_rules_works_and_says_the_new_one():
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 2, 1))
    space, fixed = ElasticSpace(resolutions=(8,)), {r"0": ChannelRule(fixed=True)}
    with pytest.warns(DeprecationWarning, match=r"rules=\) is now Supernet\(channel_rules=\)"):
        old = Supernet(model, space, rules=fixed)
    assert old.report() == Supernet(model, space, channel_rules=fixed).report()
