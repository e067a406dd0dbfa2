"""Networks have the published sizes, run at any resolution and are found by name."""

from __future__ import annotations

import pytest
import timm
import torch
import torch_pruning as tp
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mutualnet.models import (
    CifarDenseNet,
    CifarResNet,
    WideResNet,
    create_model,
    densenet40_12,
    mobilenet_v1_cifar,
    mobilenet_v1_cifar_8x8,
    resnet20_cifar,
    resnet32_cifar,
    resnet56_cifar,
    resnet110_cifar,
    resnet164_cifar,
    wrn16_1,
    wrn16_2,
    wrn16_4,
    wrn28_4,
    wrn28_10,
)
from mutualnet.models.cifar import PreActivationBlock


def count_params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, resolution: int) -> float:
    images = torch.empty(1, 3, resolution, resolution, device="meta")
    with FlopCounterMode(display=False) as counter:
        model.eval()(images)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(
    ("factory", "params_m", "macs_m"),
    [
        (wrn16_1, 0.18, 27),
        (wrn16_2, 0.70, 101),
        (wrn16_4, 2.77, 393),
        (wrn28_4, 5.87, 846),
        (wrn28_10, 36.54, 5243),
        (mobilenet_v1_cifar, 3.31, 176),
        (mobilenet_v1_cifar_8x8, 3.31, 612),
    ],
)
def test_networks_have_the_published_params_and_macs_at_32_px(factory, params_m, macs_m):
    with torch.device("meta"):
        model = factory(100)
    assert round(count_params(model) / 1e6, 2) == params_m
    assert round(count_macs(model, 32) / 1e6) == macs_m


@pytest.mark.parametrize(
    ("factory", "params_m"),
    [
        # He et al. 2016, table 6; ours have convolutions for shortcuts (2,752 parameters more).
        (resnet20_cifar, 0.27),
        (resnet32_cifar, 0.46),
        (resnet56_cifar, 0.85),
        (resnet110_cifar, 1.7),
        # He et al. 2016 (pre-activation), table 4; Huang et al. 2017, table 2.
        (resnet164_cifar, 1.7),
        (densenet40_12, 1.0),
    ],
)
def test_networks_for_cifar10_have_the_published_params(factory, params_m):
    with torch.device("meta"):
        params = count_params(factory(10))
    extra = 2752 if factory is not resnet164_cifar and factory is not densenet40_12 else 0
    digits = 1 if params_m >= 1 else 2
    assert round((params - extra) / 1e6, digits) == params_m


def test_residual_and_dense_networks_have_macs_of_a_hand_count():
    def hand_count_resnet(n: int) -> int:
        total = 3 * 16 * 9 * 32**2
        for width, side in ((16, 32), (32, 16), (64, 8)):
            total += 2 * n * width * width * 9 * side**2
            if width > 16:  # the first convolution reads half as many, the shortcut joins
                total += (-width * width // 2 * 9 + width * width // 2) * side**2
        return total + 64 * 100

    def hand_count_densenet() -> int:
        total, channels = 3 * 16 * 9 * 32**2, 16
        for side in (32, 16, 8):
            for _ in range(12):
                total += channels * 12 * 9 * side**2
                channels += 12
            if side > 8:
                total += channels * channels * side**2
        return total + channels * 100

    with torch.device("meta"):
        assert count_macs(resnet20_cifar(100), 32) == hand_count_resnet(3)
        assert count_macs(resnet110_cifar(100), 32) == hand_count_resnet(18)
        assert count_macs(densenet40_12(100), 32) == hand_count_densenet()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CifarResNet(21), r"depth must be 6n \+ 2 \(8, 14, ...\), got 21"),
        (lambda: CifarResNet(21, bottleneck=True), r"depth must be 9n \+ 2"),
        (lambda: CifarResNet(20, 0), "num_classes must be >= 1, got 0"),
        (lambda: CifarDenseNet(41), r"depth must be 3n \+ 4"),
        (lambda: CifarDenseNet(40, 0), "growth must be >= 1, got 0"),
        (lambda: CifarDenseNet(dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
        (lambda: mobilenet_v1_cifar_8x8(width=0), "width must be > 0, got 0"),
    ],
)
def test_residual_and_dense_networks_refuse_impossible_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(("resolution", "macs_g"), [(28, 4.014), (24, 2.949), (20, 2.048)])
def test_wrn28_10_has_the_published_macs_at_lower_resolutions(resolution, macs_g):
    with torch.device("meta"):
        model = wrn28_10(100)
    assert round(count_macs(model, resolution) / 1e9, 3) == macs_g


@pytest.mark.parametrize("resolution", [20, 32, 33, 64])
@pytest.mark.parametrize("factory", [wrn16_1, mobilenet_v1_cifar])
def test_any_resolution_runs(factory, resolution):
    logits = factory(7, 1).eval()(torch.randn(2, 1, resolution, resolution))
    assert logits.shape == (2, 7)


def test_the_shortcut_reads_the_activated_input_where_channels_differ():
    block = WideResNet(10, 2, 5).eval().stage1[0]
    x = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        activated = torch.relu(block.norm1(x))
        residual = block.conv2(torch.relu(block.norm2(block.conv1(activated))))
        torch.testing.assert_close(block(x), residual + block.shortcut(activated))


def test_the_shortcut_is_the_identity_where_channels_are_equal():
    block = WideResNet(10, 1, 5).eval().stage1[0]
    assert block.shortcut is None
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)


def test_wide_resnet_starts_from_kaiming_fan_out_and_a_zero_bias():
    torch.manual_seed(0)
    model = WideResNet(10, 4, 10)
    conv = model.stage3[0].conv2
    expected = (2 / (9 * conv.out_channels)) ** 0.5
    assert conv.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert model.head.bias.abs().max() == 0
    assert model.head.weight.abs().max() <= model.head.in_features**-0.5
    assert all(
        (m.weight == 1).all() and (m.bias == 0).all()
        for m in model.modules()
        if isinstance(m, nn.BatchNorm2d)
    )


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    model, x = WideResNet(10, 1, 5, dropout=0.5), torch.randn(4, 3, 16, 16)
    assert not torch.equal(model(x), model(x))
    model.eval()
    torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)


def test_torch_pruning_finds_the_channels_that_are_tied_to_the_stem():
    model = wrn16_1(10)
    graph = tp.DependencyGraph().build_dependency(model, torch.randn(1, 3, 32, 32))
    group = graph.get_pruning_group(model.stem, tp.prune_conv_out_channels, [0])
    tied = {dep.target.module for dep, _ in group if isinstance(dep.target.module, nn.Conv2d)}
    assert {model.stem, model.stage1[0].conv2, model.stage1[1].conv2} <= tied
    group.prune()
    assert model(torch.randn(2, 3, 20, 20)).shape == (2, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 17}, r"depth must be 6n \+ 4 \(10, 16, 22, 28, ...\), got 17"),
        ({"depth": 4}, r"depth must be 6n \+ 4 .* got 4"),
        ({"width_factor": 0}, "width_factor must be >= 1, got 0"),
        ({"num_classes": 0}, "num_classes must be >= 1, got 0"),
        ({"in_channels": 0}, "in_channels must be >= 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_wide_resnet_refuses_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        WideResNet(**{"depth": 16, "width_factor": 1, **arguments})


def test_a_block_whose_resolution_changes_has_a_convolution_for_a_shortcut():
    block = PreActivationBlock(16, 16, stride=2)
    assert block(torch.randn(2, 16, 8, 8)).shape == (2, 16, 4, 4)
    assert PreActivationBlock(16, 16).shortcut is None


def test_mobilenet_v1_cifar_takes_the_weights_of_timms_network():
    source = timm.create_model("mobilenetv1_100", num_classes=10)
    mobilenet_v1_cifar(10).load_state_dict(source.state_dict())


def test_mobilenet_v1_cifar_reduces_32_px_to_4_and_says_so():
    model = mobilenet_v1_cifar(10).eval()
    assert model.forward_features(torch.randn(1, 3, 32, 32)).shape[-2:] == (4, 4)
    assert [stage["reduction"] for stage in model.feature_info][-1] == 8


def test_mobilenet_v1_cifar_narrows_with_its_width():
    assert mobilenet_v1_cifar(10, width=0.25).classifier.in_features == 256
    with pytest.raises(ValueError, match="width must be > 0, got 0"):
        mobilenet_v1_cifar(10, width=0)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("wrn16_1", "WideResNet"),
        ("mobilenet_v1_cifar", "EfficientNet"),
        ("timm:mobilenetv1_100", "EfficientNet"),
        ("mobilenetv1_100", "EfficientNet"),
        ("torchvision:resnet18", "ResNet"),
        ("torchvision:squeezenet1_1", "SqueezeNet"),
    ],
)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_network_is_built_by_name_for_any_number_of_channels(spec, kind, in_channels):
    model = create_model(spec, num_classes=4, in_channels=in_channels).eval()
    assert type(model).__name__ == kind
    assert model(torch.randn(1, in_channels, 64, 64)).shape == (1, 4)


def test_arguments_reach_the_network():
    assert create_model("timm:mobilenetv1_100", num_classes=4, drop_rate=0.5).drop_rate == 0.5
    assert create_model("mobilenet_v1_cifar", num_classes=4, width=0.5).num_features == 512


def test_networks_of_other_kinds_are_made_where_they_are_asked_for():
    name = "torchvision:lraspp_mobilenet_v3_large"
    with pytest.raises(ValueError, match="no network is called"):
        create_model(name, num_classes=4)
    model = create_model(name, num_classes=4, any_kind=True).eval()
    assert model(torch.zeros(1, 3, 64, 64))["out"].shape == (1, 4, 64, 64)
    with pytest.raises(
        ValueError, match="must be 3 for this network, got 1: it has no convolution"
    ):
        create_model("torchvision:r3d_18", num_classes=4, in_channels=1, any_kind=True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("wrn28_11", "no network is called 'wrn28_11'. Did you mean wrn28_10"),
        ("mobilenetv1_10", "Did you mean mobilenetv1_100"),
        ("timm:mobilenetv1_10", "Did you mean timm:mobilenetv1_100"),
        ("torchvision:resnet19", "Did you mean torchvision:resnet18"),
        ("timm:wrn16_1", "no network is called 'timm:wrn16_1'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no network is called"),
        ("qqqqq", "no network is called 'qqqqq'. Ours are densenet40_12, faster_rcnn, "),
        ("hf-hub:timm/resnet18", "must be timm:NAME, torchvision:NAME, a bare NAME or"),
        ("timm:hf-hub:timm/resnet18", "must be timm:NAME, torchvision:NAME, a bare NAME or"),
        ("no_such_package:net", r"got 'no_such_package:net' \(No module named"),
        ("mutualnet.models.cifar:wrn99", "got 'mutualnet.models.cifar:wrn99'"),
        ("builtins:dict", "must return an nn.Module, got dict"),
    ],
)
def test_an_unknown_name_is_refused_with_close_ones(spec, message):
    with pytest.raises(ValueError, match=message):
        create_model(spec, num_classes=10)


@pytest.mark.parametrize("argument", ["pretrained", "weights", "weights_backbone"])
def test_pretrained_weights_are_refused_because_nothing_is_downloaded(argument):
    with pytest.raises(ValueError, match=f"never reads or downloads weights, got {argument}"):
        create_model("timm:resnet18", num_classes=10, **{argument: True})


@pytest.mark.parametrize("argument", ["num_classes", "in_channels"])
def test_create_model_refuses_counts_below_one(argument):
    with pytest.raises(ValueError, match=f"{argument} must be >= 1, got 0"):
        create_model("wrn16_1", **{"num_classes": 10, argument: 0})


def test_a_function_of_ones_own_is_called_by_its_import_path():
    model = create_model("mutualnet.models.cifar:wrn16_1", num_classes=7, in_channels=1)
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 7)
