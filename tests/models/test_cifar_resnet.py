"""Residual and dense networks for CIFAR, as published."""

from __future__ import annotations

import pytest
import torch

from mutualnet.models import (
    CifarDenseNet,
    CifarResNet,
    densenet40_12,
    mobilenet_v1_cifar_8x8,
    resnet20_cifar,
    resnet32_cifar,
    resnet56_cifar,
    resnet110_cifar,
    resnet164_cifar,
)
from tests.models.sizes import count_macs, count_params


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
