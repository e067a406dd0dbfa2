"""Recipes on CIFAR-10 and CIFAR-100.

Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978, section 4, and the authors' code, for
    WRN-28-10. Its initial weights are the networks' own: Kaiming-normal by fan-out, and PyTorch's
    for the classifier, with a bias of 0. The others have its settings.
Differs: The learning rate falls by a cosine, as in the code; the text says as for wide residual
    networks, which is by 5 after 60, 120 and 160 epochs. A tenth of the train images is held out
    (`data.select_share`). The statistics of BN come from 2,048 train images, as the text says; the
    code reads nine batches of 128. MobileNet v1, which the paper has not on CIFAR, keeps timm's
    initial weights, and spares BN, biases and depthwise convolutions weight decay.
"""

from __future__ import annotations

from mutualnet.config import DataConfig, ModelConfig, OptimizerConfig, Recipe
from mutualnet.space import ElasticSpace

_RESOLUTIONS = (32, 28, 24, 20)
_NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def cifar10_mobilenet_v1() -> Recipe:
    """MobileNet v1 with three down-samplings, widths from a quarter."""
    return _mobilenet_v1("cifar10")


def cifar100_mobilenet_v1() -> Recipe:
    """MobileNet v1 with three down-samplings, widths from a quarter."""
    return _mobilenet_v1("cifar100")


def cifar10_wrn16_1() -> Recipe:
    """WRN-16-1, small enough for two CPU cores."""
    return _wrn("cifar10", "wrn16_1", (0.25, 1.0), "small")


def cifar100_wrn16_1() -> Recipe:
    """WRN-16-1, small enough for two CPU cores."""
    return _wrn("cifar100", "wrn16_1", (0.25, 1.0), "small")


def cifar10_wrn16_4() -> Recipe:
    """WRN-16-4, widths from a quarter."""
    return _wrn("cifar10", "wrn16_4", (0.25, 1.0), "medium")


def cifar100_wrn16_4() -> Recipe:
    """WRN-16-4, widths from a quarter."""
    return _wrn("cifar100", "wrn16_4", (0.25, 1.0), "medium")


def cifar10_wrn28_10() -> Recipe:
    """WRN-28-10 boosted by its own nearly full widths, as in the MutualNet paper."""
    return _wrn("cifar10", "wrn28_10", (0.9, 1.0), "the paper's boost of one network")


def cifar100_wrn28_10() -> Recipe:
    """WRN-28-10 boosted by its own nearly full widths, as in the MutualNet paper."""
    return _wrn("cifar100", "wrn28_10", (0.9, 1.0), "the paper's boost of one network")


def _mobilenet_v1(data: str) -> Recipe:
    return Recipe(
        name=f"{data}_mobilenet_v1",
        description=f"MobileNet v1 for 32 px on {_NAMES[data]}, widths 0.25-1, 200 epochs",
        model=ModelConfig(name="mobilenet_v1_cifar"),
        data=DataConfig(name=data, batch_size=128),
        space=ElasticSpace(width_range=(0.25, 1.0), resolutions=_RESOLUTIONS),
        optimizer=OptimizerConfig(lr=0.1, epochs=200, weight_decay=5e-4),
    )


def _wrn(data: str, model: str, width_range: tuple[float, float], remark: str) -> Recipe:
    low, high = width_range
    name = model.replace("wrn", "WRN-").replace("_", "-")
    return Recipe(
        name=f"{data}_{model}",
        description=f"{name} on {_NAMES[data]}, widths {low:g}-{high:g}, 200 epochs; {remark}",
        model=ModelConfig(name=model),
        data=DataConfig(name=data, batch_size=128),
        space=ElasticSpace(width_range=width_range, resolutions=_RESOLUTIONS),
        optimizer=OptimizerConfig(lr=0.1, epochs=200, weight_decay=5e-4, decay_all=True),
    )
