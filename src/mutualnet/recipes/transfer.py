"""Recipes that fine-tune a network trained on ImageNet: give it by `--init`.

Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978, section 4, and the authors' code:
    outside of ImageNet it decays every parameter.
Differs: Weights are matched by name, where the code goes by position. A tenth of the train images
    is held out (`data.select_share`). Crops and colours change as in the recipes on ImageNet; the
    paper does not say how they did.
"""

from __future__ import annotations

from mutualnet.config import DataConfig, ModelConfig, OptimizerConfig, Recipe
from mutualnet.space import ElasticSpace


def cifar100_mobilenet_v1_transfer() -> Recipe:
    """MobileNet v1 to CIFAR-100, whose images are enlarged."""
    return _transfer("cifar100_mobilenet_v1_transfer", "cifar100", "CIFAR-100 at 224 px")


def food101_mobilenet_v1() -> Recipe:
    """MobileNet v1 to Food-101."""
    return _transfer("food101_mobilenet_v1", "food101", "Food-101")


def indoor67_mobilenet_v1() -> Recipe:
    """MobileNet v1 to MIT's 67 indoor scenes."""
    return _transfer("indoor67_mobilenet_v1", "indoor67", "MIT indoor scenes")


def _transfer(name: str, data: str, title: str) -> Recipe:
    return Recipe(
        name=name,
        description=f"MobileNet v1 from ImageNet to {title}, widths 0.25-1, 100 epochs; --init",
        model=ModelConfig(name="timm:mobilenetv1_100", weight_init="mutualnet"),
        data=DataConfig(name=data, batch_size=256, num_workers=4),
        space=ElasticSpace(width_range=(0.25, 1.0), resolutions=(224, 192, 160, 128)),
        optimizer=OptimizerConfig(lr=0.1, epochs=100, weight_decay=1e-4, decay_all=True),
    )
