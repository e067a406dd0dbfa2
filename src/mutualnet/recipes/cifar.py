"""Recipes on CIFAR."""

from mutualnet.config import DataConfig, ModelConfig, OptimizerConfig, Recipe
from mutualnet.space import ElasticSpace

_RESOLUTIONS = (32, 28, 24, 20)


def cifar10_mobilenet_v1() -> Recipe:
    """MobileNet v1 with three down-samplings, widths from a quarter."""
    return Recipe(
        name="cifar10_mobilenet_v1",
        description="MobileNet v1 for 32 px on CIFAR-10, widths 0.25-1, 200 epochs",
        model=ModelConfig(name="mobilenet_v1_cifar"),
        data=DataConfig(name="cifar10", batch_size=128),
        space=ElasticSpace(width_range=(0.25, 1.0), resolutions=_RESOLUTIONS),
        optimizer=OptimizerConfig(lr=0.1, epochs=200, weight_decay=5e-4),
    )


def cifar10_wrn16_1() -> Recipe:
    """WRN-16-1, small enough for two CPU cores."""
    return Recipe(
        name="cifar10_wrn16_1",
        description="WRN-16-1 on CIFAR-10, widths 0.25-1, 200 epochs; small",
        model=ModelConfig(name="wrn16_1"),
        data=DataConfig(name="cifar10", batch_size=128),
        space=ElasticSpace(width_range=(0.25, 1.0), resolutions=_RESOLUTIONS),
        optimizer=OptimizerConfig(lr=0.1, epochs=200, weight_decay=5e-4, decay_all=True),
    )
