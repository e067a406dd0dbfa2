"""Recipes that go on from a network trained on ImageNet: give it by `--init`."""

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
        model=ModelConfig(name="timm:mobilenetv1_100"),
        data=DataConfig(name=data, batch_size=256, num_workers=4),
        space=ElasticSpace(width_range=(0.25, 1.0), resolutions=(224, 192, 160, 128)),
        optimizer=OptimizerConfig(lr=0.1, epochs=100, weight_decay=1e-4),
    )
