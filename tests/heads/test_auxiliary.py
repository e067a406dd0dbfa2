"""Heads read inner layers of any network, have the published sizes, and leave no trace."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import timm
import torch
from torch import nn

from mutualnet.heads.auxiliary import AuxiliaryHeads, Head
from mutualnet.heads.blocks import Blocks
from mutualnet.heads.presets import (
    head_preset,
)
from mutualnet.models import create_model, wrn16_1
from mutualnet.teaching import OUTPUT


@pytest.mark.parametrize(
    ("name", "linear_blocks"),
    [
        ("mobilenet_v1_cifar_8x8", ()),
        # Inverted blocks end without an activation, as does the one before them.
        ("mobilenetv2_100", ("InvertedResidual", "DepthwiseSeparableConv")),
    ],
)
def test_heads_of_mobile_networks_activate_as_often_as_their_network(name, linear_blocks):
    model, images = create_model(name, num_classes=10), torch.zeros(1, 3, 64, 64)
    heads = AuxiliaryHeads(model, head_preset(name), num_classes=10, images=images)
    for module in (model, *heads.values()):
        parts = list(module.modules())
        convolutions = sum(isinstance(part, nn.Conv2d) for part in parts)
        activations = sum(isinstance(part, nn.ReLU | nn.ReLU6) for part in parts)
        assert activations == convolutions - sum(type(p).__name__ in linear_blocks for p in parts)


def _small(model, images, **kwargs):
    heads = head_preset("wrn16_1")
    return AuxiliaryHeads(model, heads, num_classes=10, images=images, **kwargs)


def test_heads_leave_the_network_as_it_was(model, images):
    model.train()
    model.stage1.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    heads = _small(model, images)
    assert [module.training for module in model.modules()] == modes
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert not any(key in model.state_dict() for key in heads.state_dict())
    model.eval()
    expected = model(images)
    assert torch.equal(heads.outputs(model, images)[OUTPUT], expected)


def test_hooks_are_removed_after_an_error_too(model, images):
    heads = _small(model, images)
    heads.outputs(model, images)
    with pytest.raises(RuntimeError):
        heads.outputs(model, torch.randn(4, 5, 16, 16))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_head_learns_from_what_its_network_computes(model, images):
    heads = _small(model, images)
    features = model.stage2(model.stage1(model.stem(images)))
    torch.testing.assert_close(heads["C2"](features), heads.outputs(model, images)["C2"])
    heads.outputs(model, images)["C2"].sum().backward()
    assert model.stem.weight.grad is not None
    assert model.head.weight.grad is None


def test_checkpointed_heads_give_the_same_gradients_and_statistics(model, images):
    kept = _small(model, images)
    again = copy.deepcopy(kept)
    again.checkpointed = True
    twin = copy.deepcopy(model)
    outputs = []
    for network, heads in ((model, kept), (twin, again)):
        network.train()
        heads.train()
        out = heads.outputs(network, images)
        sum(value.square().sum() for value in out.values()).backward()
        outputs.append(out)
    for name in outputs[0]:
        assert torch.equal(outputs[0][name], outputs[1][name])
    for one, other in zip(
        [*model.parameters(), *kept.parameters()],
        [*twin.parameters(), *again.parameters()],
        strict=True,
    ):
        torch.testing.assert_close(one.grad, other.grad)
    for one, other in zip(kept.buffers(), again.buffers(), strict=True):
        assert torch.equal(one, other)


def test_a_head_can_read_any_layer_of_a_network_from_elsewhere(images):
    model = timm.create_model("efficientnet_b0", num_classes=10)
    images = torch.randn(2, 3, 64, 64)
    head = Head(after="blocks.3.0.bn1", blocks=(Blocks("inverted", 24, 2, 2),))
    heads = AuxiliaryHeads(model, {"early": head}, num_classes=7, images=images)
    assert heads.outputs(model, images)["early"].shape == (2, 7)


class _Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.unused = nn.Conv2d(3, 3, 3)
        self.head = nn.Linear(3, 10)

    def forward(self, x):
        return self.head(self.conv(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("stage9", "WideResNet has no module 'stage9' for a head. Did you mean stage"),
        ("", "has no module ''"),
        ("flatten", r"must read a map \(N, C, H, W\), but 'flatten' gave \(4, 64\)"),
    ],
)
def test_a_path_that_no_head_can_read_is_refused(model, images, path, message):
    with pytest.raises(ValueError, match=message):
        AuxiliaryHeads(model, {"C2": Head(after=path)}, num_classes=10, images=images)


@pytest.mark.parametrize(("path", "times"), [("conv", 2), ("unused", 0)])
def test_a_module_that_does_not_run_once_is_refused(images, path, times):
    with pytest.raises(ValueError, match=f"but '{path}' ran {times} times"):
        AuxiliaryHeads(_Twice(), {"C2": Head(after=path)}, num_classes=10, images=images)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(head_preset, "timm:resnet34"), "network timm:resnet34 has no auxiliary heads"),
        (
            partial(head_preset, "wrn28_11"),
            "wrn28_10.* Or describe some: model.heads=package.module",
        ),
        (partial(head_preset, "resnet110_cifar", ("C4",)), "must be among C2, C3, got C4"),
        (partial(Blocks, "convnext", 8), "kind must be one of basic, "),
        (partial(Blocks, "basic", 0), "channels must be >= 1, got 0"),
        (partial(Blocks, "basic", 8, expansion=0), "expansion must be > 0 or None, got 0"),
        (partial(Head, after="x", pool=0), "pool must be >= 1, got 0"),
        (partial(Head, after="x", pool="4"), "pool must be a whole number, got '4'"),
        (partial(Head, after="x", pool=2.5), r"pool must be a whole number, got 2\.5"),
        (partial(Head, after="x", norm="no"), "norm must be True or False, got 'no'"),
        (Blocks("bottleneck", 8, expansion=0.5).build, "expansion of a bottleneck must be 1/4"),
        (Blocks("dense", 8, stride=3).build, "stride of dense layers must be 1 or 2, got 3"),
    ],
)
def test_impossible_descriptions_are_refused(build, message):
    arguments = (8,) if getattr(build, "__name__", "") == "build" else ()
    with pytest.raises(ValueError, match=message):
        build(*arguments)


def test_a_head_needs_a_name_of_its_own(model, images):
    for name in (OUTPUT, "a.b", "", "half", "keys", "outputs"):
        with pytest.raises(ValueError, match="a name without dots"):
            AuxiliaryHeads(model, {name: Head(after="stage1")}, num_classes=10, images=images)


def test_what_is_no_head_is_named(model, images):
    with pytest.raises(ValueError, match=r"head C2 must be described by .*Head, got 'stage1'"):
        AuxiliaryHeads(model, {"C2": "stage1"}, num_classes=10, images=images)
    heads = _small(model, images)
    for names in (["C9"], "C9"):
        with pytest.raises(ValueError, match=r"a list of heads among .*, got 'C9?'"):
            heads.outputs(model, images, names)


def test_a_map_that_is_changed_in_place_is_refused(images):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)
    )
    AuxiliaryHeads(model, {"C2": Head(after="2")}, num_classes=3, images=images)
    with pytest.raises(ValueError, match="a layer after '1' changes it in place"):
        AuxiliaryHeads(model, {"C2": Head(after="1")}, num_classes=3, images=images)


def test_heads_run_without_gradients_too(model, images):
    heads = _small(model, images)
    model.eval()
    heads.eval()
    with torch.inference_mode():
        outputs = heads.outputs(model, images)
    assert torch.equal(outputs[OUTPUT], model(images))


def test_heads_have_the_number_format_of_their_network():
    model = wrn16_1(4).double()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    heads = AuxiliaryHeads(model, head_preset("wrn16_1"), num_classes=4, images=images)
    assert {v.dtype for v in heads.outputs(model, images).values()} == {torch.float64}


def test_only_the_heads_that_are_asked_for_run(model, images):
    heads = AuxiliaryHeads(model, head_preset("wrn16_1"), num_classes=4, images=images)
    model.train(), heads.train()
    assert set(heads.outputs(model, images, ["C3"])) == {OUTPUT, "C3"}
    counts = {
        name: {int(m.num_batches_tracked) for m in head.modules() if isinstance(m, nn.BatchNorm2d)}
        for name, head in heads.items()
    }
    assert counts == {"C2": {0}, "C3": {1}}


class _ChannelsLast(nn.Module):
    """Keeps its channels at the end, as vision transformers do."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 5)
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.inner(x.permute(0, 2, 3, 1)).mean((1, 2)))


def test_a_map_with_the_channels_last_is_refused():
    heads, images = {"C2": Head(after="inner")}, torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"\(1, 8, 8, 5\) for square images.*channels second"):
        AuxiliaryHeads(_ChannelsLast(), heads, num_classes=4, images=images)
