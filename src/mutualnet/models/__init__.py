"""Networks by name: ours, timm's and torchvision's, always with fresh weights."""

from __future__ import annotations

from mutualnet.models.cifar import (
    WideResNet,
    mobilenet_v1_cifar,
    mobilenet_v1_cifar_8x8,
    wrn16_1,
    wrn16_2,
    wrn16_4,
    wrn28_4,
    wrn28_10,
)
from mutualnet.models.cifar_densenet import CifarDenseNet, densenet40_12
from mutualnet.models.cifar_resnet import (
    CifarResNet,
    resnet20_cifar,
    resnet32_cifar,
    resnet56_cifar,
    resnet110_cifar,
    resnet164_cifar,
)
from mutualnet.models.detection import faster_rcnn, mask_rcnn, retinanet
from mutualnet.models.registry import create_model
from mutualnet.models.scaled import mobilenet_v1_scaled
from mutualnet.models.video import X3D, Slow, SlowFast

__all__ = [
    "X3D",
    "CifarDenseNet",
    "CifarResNet",
    "Slow",
    "SlowFast",
    "WideResNet",
    "create_model",
    "densenet40_12",
    "faster_rcnn",
    "mask_rcnn",
    "mobilenet_v1_cifar",
    "mobilenet_v1_cifar_8x8",
    "mobilenet_v1_scaled",
    "resnet20_cifar",
    "resnet32_cifar",
    "resnet56_cifar",
    "resnet110_cifar",
    "resnet164_cifar",
    "retinanet",
    "wrn16_1",
    "wrn16_2",
    "wrn16_4",
    "wrn28_4",
    "wrn28_10",
]
