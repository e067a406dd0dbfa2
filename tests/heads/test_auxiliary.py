"""Heads read inner layers of any network, have the published sizes, and leave no trace."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import timm
import torch
from torch import nn

from mutualnet.heads.auxiliary import AuxiliaryHeads, Head
from mutualnet.heads.blocks import BLOCKS, Blocks
from mutualnet.heads.presets import (
    HEAD_PRESETS,
    cifar_resnet_heads,
    head_preset,
    mobilenet_v1_cifar_heads,
)
from mutualnet.models import create_model, wrn16_1
from mutualnet.teaching import OUTPUT, dcm


def _million(module: nn.Module) -> float:
    return round(sum(p.numel() for p in module.parameters()) / 1e6, 2)


def _heads(name, heads, num_classes=100, side=32):
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes)
        images = torch.zeros(1, 3, side, side)
        return AuxiliaryHeads(model, heads, num_classes=num_classes, images=images)


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("basic", None),
        ("bottleneck", None),
        ("depthwise", None),
        ("depthwise_relu6", 6),
        ("pointwise", 6),
    ],
)
def test_blocks_end_with_the_activation_of_their_network(kind, most):
    block, _ = Blocks(kind, 16).build(8)
    outputs = 100 * block(100 * torch.randn(4, 8, 5, 5))
    assert float(outputs.detach().min()) == 0
    if most is not None:
        assert float(outputs.detach().max()) <= 100 * most


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


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("wrn28_10", {"C2": 107.46, "C3": 20.15, "C4": 18.10}),
        ("wrn28_4", {"C2": 17.23, "C3": 3.24}),
        ("mobilenet_v1_cifar_8x8", {"C2": 5.48, "C3": 2.64}),
    ],
)
def test_heads_have_the_published_params(name, sizes):
    heads = _heads(name, head_preset(name, tuple(sizes)))
    assert {head: _million(heads[head]) for head in sizes} == pytest.approx(sizes, abs=0.0051)


def test_mobilenets_c3_has_more_blocks_by_the_table():
    heads = mobilenet_v1_cifar_heads(num_repeats=5)
    assert _million(_heads("mobilenet_v1_cifar_8x8", heads)["C3"]) == 3.18


def test_bottlenecks_of_resnet164_are_uniform_as_printed():
    printed = _heads("resnet164_cifar", cifar_resnet_heads(164, bottleneck=True, uniform=True))
    # 18 blocks of 1x1, 3x3 and 1x1 convolutions with 512 channels each, on 128 of stage 2.
    convolutions = (128 + 17 * 512) * 512 + 18 * (9 + 1) * 512**2 + 128 * 512
    assert _million(printed["C2"]) == pytest.approx(convolutions / 1e6, rel=0.01)
    ours = _heads("resnet164_cifar", head_preset("resnet164_cifar"))
    assert 2.5 < _million(ours["C2"]) / 1.73 < 3.5


SIDES = {"resnet18": 64, "resnet50": 64, "mobilenetv2_100": 64, "torchvision:mobilenet_v2": 64}


@pytest.mark.parametrize("name", sorted(HEAD_PRESETS))
def test_heads_lower_the_resolution_as_often_as_their_network(name):
    maps = {}

    def keep(key):
        def hook(_, inputs, output):
            maps.setdefault(key, []).append(tuple(inputs[0].shape[-2:]))

        return hook

    names = tuple(HEAD_PRESETS[name]())
    with torch.device("meta"):
        model = create_model(name, num_classes=10)
        images = torch.zeros(2, 3, SIDES.get(name, 32), SIDES.get(name, 32))
        heads = AuxiliaryHeads(model, head_preset(name, names), num_classes=10, images=images)
        for key, module in (("main", model), *heads.items()):
            for part in module.modules():
                if isinstance(part, nn.AdaptiveAvgPool2d):
                    part.register_forward_hook(keep(key))
        if name.startswith("torchvision"):  # pools by a function, before its classifier
            model.features[-1][0].register_forward_hook(keep("main"))
        outputs = heads.outputs(model, images)
    assert set(maps) == {"main", *names}
    assert len({sizes[-1] for sizes in maps.values()}) == 1, maps
    assert {key: tuple(value.shape) for key, value in outputs.items()} == dict.fromkeys(
        (OUTPUT, *names), (2, 10)
    )


@pytest.mark.parametrize("name", ["wrn28_10", "resnet110_cifar", "densenet40_12", "timm:resnet18"])
def test_variants_are_smaller(name):
    standard, narrow, apfc = (
        _heads(name, head_preset(name, ("C2", "C3"), variant))
        for variant in ("standard", "narrow", "apfc")
    )
    for head in ("C2", "C3"):
        assert _million(narrow[head]) < 0.55 * _million(standard[head])
        kinds = [type(m) for m in apfc[head].modules()]
        assert kinds.count(nn.Linear) == 1
        assert nn.Conv2d not in kinds
        assert apfc[head][-3].output_size == 4
        assert apfc[head][-1].in_features % 16 == 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_q_counts_heads_from_the_last_stage_on(count):
    names = ("C2", "C3", "C4")[:count]
    assert set(head_preset("wrn28_4", names)) == set(names)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return wrn16_1(10)


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16)


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


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_every_kind_of_block_keeps_its_word(kind):
    torch.manual_seed(0)
    for stride in (1, 2):
        module, channels = Blocks(kind, 16, 2, stride).build(8)
        out = module(torch.randn(2, 8, 8, 8))
        assert out.shape == (2, channels, 8 // stride, 8 // stride)
        assert channels == (40 if kind == "dense" else 16)


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


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Head(after="s", blocks=Blocks("basic", 4)), r"must be a tuple .* got Blocks\("),
        (lambda: Head(after=None), "after must be the path of a module, got None"),
        (lambda: Blocks("basic", 6.5), "channels must be a whole number, got 6.5"),
        (lambda: head_preset("wrn16_1", variant="wide"), "variant must be one of standard, narrow"),
        (lambda: dcm(2, "C2"), r"heads must be a list of names, such as \['C2'\]"),
    ],
)
def test_slips_in_a_description_are_told(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_heads_have_names_and_say_which_of_them_cannot_be_built(model, images):
    with pytest.raises(ValueError, match=r"heads must be given by names, such as C2, got \[1\]"):
        AuxiliaryHeads(model, {1: Head(after="stage1")}, num_classes=4, images=images)
    odd = Head(after="stage1", blocks=(Blocks("bottleneck", 64, expansion=0.5),))
    with pytest.raises(ValueError, match="head C3 cannot be built: expansion of a bottleneck"):
        AuxiliaryHeads(model, {"C3": odd}, num_classes=4, images=images)
