"""Networks by name: ours, timm's and torchvision's, always with fresh weights."""

from mutualnet.models.cifar import (
    WideResNet,
    mobilenet_v1_cifar,
    wrn16_1,
    wrn16_4,
    wrn28_4,
    wrn28_10,
)
from mutualnet.models.registry import create_model
from mutualnet.models.scaled import mobilenet_v1_scaled

__all__ = [
    "WideResNet",
    "create_model",
    "mobilenet_v1_cifar",
    "mobilenet_v1_scaled",
    "wrn16_1",
    "wrn16_4",
    "wrn28_4",
    "wrn28_10",
]
