"""Recipes for two networks that teach each other, on CIFAR-100 and ImageNet.

Settings are those of dense cross-layer mutual distillation, which is also their method; others are
one switch away.

Source: Yao and Sun 2020, https://arxiv.org/abs/2008.07816, section 4, and the authors' code on
    CIFAR-100, whose initial weights `model.weight_init=dcm` draws.
Differs: The momentum is kept at drops of the learning rate, where the code forgets it
    (`optimizer.reset_momentum` does too). The learning rate of wide residual networks drops
    after 60, 120 and 160 epochs, as the text says; the code's drops one epoch earlier. Divergences
    are computed from logarithms, where the code adds 1e-8 to every probability. The code's
    MobileNet is drawn by PyTorch's default and scored with the statistics of test batches; ours is
    drawn like the others and scored in eval mode. The code for ImageNet is not published: there
    networks keep timm's initial weights, and all parameters decay, as on CIFAR-100. WRN-16-1 has
    the settings of its larger kin. A tenth of the train images is held out, as in every recipe
    (`data.select_share`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mutualnet.config import (
    DataConfig,
    MethodConfig,
    ModelConfig,
    OptimizerConfig,
    PeerConfig,
    Recipe,
    TeachingConfig,
)
from mutualnet.space import ElasticSpace


def _steps(
    epochs: int,
    milestones: tuple[int, ...],
    *,
    gamma: float = 0.1,
    weight_decay: float = 1e-4,
    nesterov: bool = False,
) -> OptimizerConfig:
    """SGD from a learning rate of 0.1, which falls at some epochs; weight decay on everything."""
    return OptimizerConfig(
        lr=0.1,
        epochs=epochs,
        nesterov=nesterov,
        weight_decay=weight_decay,
        decay_all=True,
        schedule="step",
        milestones=milestones,
        gamma=gamma,
    )


_WRN = _steps(200, (60, 120, 160), gamma=0.2, weight_decay=5e-4)
_RESNET = _steps(200, (60, 120, 180))
_DENSENET = _steps(300, (150, 225), nesterov=True)
_IMAGENET_RESNET = _steps(100, (30, 60, 90))
_IMAGENET_MOBILENET_V2 = OptimizerConfig(
    lr=0.05, epochs=150, nesterov=False, weight_decay=4e-5, decay_all=True
)
_MOBILENET = "mobilenet_v1_cifar_8x8"


def cifar100_wrn16_1_pair_mutualnet() -> Recipe:
    """Two slimmable WRN-16-1 whose full networks teach each other."""
    return _pair(
        "cifar100_wrn16_1_pair_mutualnet",
        ("wrn16_1", "wrn16_1"),
        "two WRN-16-1 on CIFAR-100, widths 0.25-1, that teach each other; a table for each",
        _WRN,
        space=ElasticSpace(width_range=(0.25, 1.0), resolutions=(32, 28, 24, 20)),
        method="mutualnet",
    )


def _pair(
    name: str,
    models: tuple[str, str],
    description: str,
    optimizer: OptimizerConfig,
    *,
    batch_size: int = 128,
    space: ElasticSpace | None = None,
    method: str = "independent",
) -> Recipe:
    is_imagenet = name.startswith("imagenet")
    side = 224 if is_imagenet else 32
    data = (
        DataConfig(name="imagenet", batch_size=batch_size, augment="wide_crop", num_workers=8)
        if is_imagenet
        else DataConfig(name="cifar100", batch_size=batch_size)
    )
    first, *others = (
        ModelConfig(name=model, weight_init="default" if is_imagenet else "dcm") for model in models
    )
    return Recipe(
        name=name,
        description=description,
        model=first,
        peers=tuple(PeerConfig(model=model) for model in others),
        data=data,
        space=space or ElasticSpace(width_range=(1.0, 1.0), resolutions=(side,)),
        optimizer=optimizer,
        method=MethodConfig(name=method),
        teaching=TeachingConfig(method="dcm"),
    )


def _cifar100(
    name: str, models: tuple[str, str], title: str, optimizer: OptimizerConfig, batch_size: int
) -> Callable[[], Recipe]:
    text = f"{title} on CIFAR-100, {optimizer.epochs} epochs; networks that teach each other"
    return partial(_pair, f"cifar100_{name}_pair", models, text, optimizer, batch_size=batch_size)


def _imagenet(
    name: str, models: tuple[str, str], title: str, optimizer: OptimizerConfig
) -> Callable[[], Recipe]:
    text = f"{title} on ImageNet, {optimizer.epochs} epochs; networks that teach each other"
    return partial(_pair, f"imagenet_{name}_pair", models, text, optimizer, batch_size=256)


def _twice(model: str) -> tuple[str, str]:
    return model, model


_ALL: tuple[Callable[[], Recipe], ...] = (
    _cifar100("wrn28_10", _twice("wrn28_10"), "two WRN-28-10", _WRN, 128),
    _cifar100("wrn28_4", _twice("wrn28_4"), "two WRN-28-4", _WRN, 128),
    _cifar100("wrn16_1", _twice("wrn16_1"), "two WRN-16-1", _WRN, 128),
    _cifar100("resnet110", _twice("resnet110_cifar"), "two ResNet-110", _RESNET, 64),
    _cifar100("resnet164", _twice("resnet164_cifar"), "two ResNet-164", _RESNET, 64),
    _cifar100("densenet40_12", _twice("densenet40_12"), "two DenseNet-40-12", _DENSENET, 64),
    _cifar100("mobilenet", _twice(_MOBILENET), "two MobileNet v1", _RESNET, 64),
    _cifar100("wrn28_10+mobilenet", ("wrn28_10", _MOBILENET), "WRN-28-10, MobileNet v1", _WRN, 128),
    _cifar100(
        "wrn28_10+resnet110", ("wrn28_10", "resnet110_cifar"), "WRN-28-10, ResNet-110", _WRN, 128
    ),
    cifar100_wrn16_1_pair_mutualnet,
    _imagenet("resnet18", _twice("timm:resnet18"), "two ResNet-18", _IMAGENET_RESNET),
    _imagenet("resnet50", _twice("timm:resnet50"), "two ResNet-50", _IMAGENET_RESNET),
    _imagenet(
        "resnet50+resnet18", ("timm:resnet50", "timm:resnet18"), "ResNet-50, -18", _IMAGENET_RESNET
    ),
    _imagenet(
        "mobilenet_v2", _twice("timm:mobilenetv2_100"), "two MobileNet v2", _IMAGENET_MOBILENET_V2
    ),
)

PAIRS: dict[str, Callable[[], Recipe]] = {make().name: make for make in _ALL}
"""Recipes of pairs by name."""
