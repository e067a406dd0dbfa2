"""Networks for clips have the papers' parameters and multiply-adds, in full and as sub-networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mutualnet import ElasticSpace, Subnet, Supernet
from mutualnet.cost import CostModel
from mutualnet.models import X3D, Slow, SlowFast, create_model

SPACE = ElasticSpace(width_range=(0.63, 1.0), resolutions=(256, 224, 192, 180, 160, 144))


def _macs(model: nn.Module, *shapes: tuple[int, int]) -> float:
    """Billions, by PyTorch's own count, for clips of (frames, pixels)."""
    clips = [torch.zeros(1, 3, t, side, side, device="meta") for t, side in shapes]
    with FlopCounterMode(display=False) as counter:
        model.eval().to("meta")(clips[0] if len(clips) == 1 else clips)
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(
    ("build", "millions", "costs"),
    [
        (Slow, 32.45, {(8, 256): 54.52, (8, 224): 41.74}),
        (SlowFast, 34.48, {(32, 256): 36.10, (32, 224): 27.64}),
        (X3D, 3.79, {(16, 224): 4.73, (4, 160): 0.605, (13, 160): 1.963}),
    ],
)
def test_parameters_and_costs_are_the_papers(build, millions, costs):
    model = build()
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)
    for shape, billions in costs.items():
        assert _macs(model, shape) == pytest.approx(billions, abs=0.006)


POINTS = {
    Slow: """1-256-8 54.52, 1-224-8 41.74, .83-224-8 29.33, .73-224-8 22.55, .63-224-8 16.60,
        .63-224-5 10.38, .63-180-5 7.31, .63-180-3 4.39, .63-144-3 2.68""",
    SlowFast: """1-256-4 36.10, 1-224-4 27.64, 1-224-3 22.15, .83-224-3 17.36, .73-224-3 14.73,
        .63-224-3 12.41, .63-224-2 10.17, .63-180-2 8.84, .73-144-2 8.27, .63-144-2 7.61""",
    X3D: """1-224-16 4.73, 1-224-13 3.85, 1-224-10 2.96, 1-224-6 1.78, .73-192-10 1.22,
        .63-192-10 .986, .73-192-6 .734, .63-192-6 .592, .73-160-6 .510, .63-160-6 .411,
        .63-144-6 .348""",
}
"""Width, pixels and frames of every point that the paper draws, and its billions. Of SlowFast's
they are the slow pathway's; the fast one sees 32 frames of 224 pixels, or of 256 at the first."""


@pytest.mark.parametrize("build", POINTS, ids=lambda b: b.__name__)
def test_every_configuration_of_the_paper_costs_what_it_says(build):
    points = [point.split() for point in POINTS[build].split(",")]
    configurations = [configuration.split("-") for configuration, _ in points]
    frames = tuple({int(count) for _, _, count in configurations})
    below = ElasticSpace(width_range=(0.63, 1.0), resolutions=SPACE.resolutions[1:], frames=frames)
    # The fast pathway sees the clip of the space's largest sub-network.
    spaces = {"256": replace(below, resolutions=SPACE.resolutions)}
    nets = {top: Supernet(build(), space).eval() for top, space in {"": below, **spaces}.items()}
    for (width, side, count), (configuration, billions) in zip(configurations, points, strict=True):
        net = nets.get(side, nets[""])
        subnet = Subnet(width_mult=float(width), resolution=int(side), num_frames=int(count))
        assert CostModel(net).macs(subnet) / 1e9 == pytest.approx(float(billions), abs=0.01)
        shapes = [(int(count), int(side))]
        if build is SlowFast:
            shapes.append((32, 256 if side == "256" else 224))
        found = _macs(net.extract(subnet, uncalibrated=True), *shapes)
        assert found == pytest.approx(float(billions), abs=0.01), configuration


def _small_slowfast(**arguments: int) -> SlowFast:
    torch.manual_seed(0)
    return SlowFast(num_classes=5, alpha=4, **arguments)


def test_the_slow_pathway_sees_every_alphath_frame():
    model = _small_slowfast().eval()
    clip = torch.randn(2, 3, 8, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(clip), model([clip[:, :, ::4], clip]), rtol=0, atol=0)


def test_fast_features_take_the_size_of_the_slow_pathway():
    """What is resized: a constant fast clip gives the same features at any size of the slow one."""
    model = _small_slowfast().eval()
    for block in model.modules():  # blocks begin as identity, which would hide their input
        if isinstance(block, nn.BatchNorm3d):
            nn.init.ones_(block.weight)
    fast = torch.randn(1, 3, 8, 32, 32)
    seen = []
    for stage in model.slow:
        stage.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    with torch.inference_mode():
        for frames, side in ((2, 32), (1, 32), (2, 48)):
            seen.clear()
            assert model([torch.randn(1, 3, frames, side, side), fast]).shape == (1, 5)
            assert [shape[2:] for shape in seen] == [
                (frames, *[-(-side // step)] * 2) for step in (4, 4, 8, 16)
            ]
            assert [shape[1] for shape in seen] == [64 + 16, 256 + 64, 512 + 128, 1024 + 256]


def test_a_narrow_slowfast_keeps_its_fast_pathway():
    model = _small_slowfast()
    space = ElasticSpace(width_range=(0.5, 1.0), resolutions=(32,))
    net = Supernet(model, space, example_input=torch.zeros(1, 3, 8, 32, 32))
    narrow = net.subnet(Subnet(width_mult=0.5, resolution=32)).train()
    full = dict(model.named_parameters())
    for name, parameter in narrow.named_parameters():
        if name.startswith(("fast", "laterals")):
            assert parameter.shape == full[name].shape, name
    assert narrow.slow[0][0].reduce[0].weight.shape[:2] == (32, 32 + 16)
    assert narrow.classifier.in_features == 1024 + 256
    for parameter in narrow.parameters():  # the last BN of each block begins with zeros
        if parameter.dim() == 1 and not parameter.any():
            nn.init.constant_(parameter, 0.5)
    narrow([torch.randn(2, 3, 2, 32, 32), torch.randn(2, 3, 8, 32, 32)]).sum().backward()
    for name, parameter in full.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("name", ["slow_r50", "slowfast_r50", "x3d"])
def test_they_are_made_by_name(name):
    model = create_model(name, num_classes=7, in_channels=1)
    assert model.eval()(torch.randn(1, 1, 8, 32, 32)).shape == (1, 7)


def test_blocks_begin_as_their_shortcuts():
    model = X3D(num_classes=3).eval()
    block = model.stages[0][1]
    x = torch.rand(1, 24, 2, 4, 4)
    with torch.inference_mode():
        torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be >= 1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"depths": (1, 2), "channels": (8,)}, "depths and channels must be as many counts"),
        ({"expansion": 0.01}, r"expansion must leave at least one of 24 channels, got 0\.01"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        X3D(**arguments)
