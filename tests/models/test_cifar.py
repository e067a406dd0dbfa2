"""Networks have the published sizes, run at any resolution and are found by name."""

from __future__ import annotations

import pytest
import timm
import torch
import torch_pruning as tp
from torch import nn

from mutualnet.models import (
    WideResNet,
    mobilenet_v1_cifar,
    mobilenet_v1_cifar_8x8,
    wrn16_1,
    wrn16_2,
    wrn16_4,
    wrn28_4,
    wrn28_10,
)
from mutualnet.models.cifar import PreActivationBlock
from tests.models.sizes import count_macs, count_params


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
