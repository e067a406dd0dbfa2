"""Recipes on ImageNet: `train/<class>/` and `val/<class>/`.

Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978, section 4, and the authors' code, whose
    initial weights `model.weight_init=mutualnet` draws.
Differs: The learning rate falls by a cosine and ResNet-50 trains for 120 epochs, as in the code;
    the text says 100 epochs and US-Net's schedule, which is linear (`--method us_net` brings it).
    Lighting noise is left out: the code's moves a pixel by one grey level at most. A tenth of the
    train images is held out (`data.select_share`). The statistics of BN come from 2,048 train
    images, as the text says; the code reads nine batches. The settings of the scaled MobileNet v1
    are not published, and the paper quotes SE-ResNet-50 and compound scaling from others: all
    three train as the network that they are compared with.
"""

from __future__ import annotations

from typing import Any

from mutualnet.config import DataConfig, MethodConfig, ModelConfig, OptimizerConfig, Recipe
from mutualnet.space import ElasticSpace

_RESOLUTIONS = (224, 192, 160, 128)


def imagenet_mobilenet_v1() -> Recipe:
    """MobileNet v1 as in the MutualNet paper, table 1."""
    return _mobile("imagenet_mobilenet_v1", "timm:mobilenetv1_100", (0.25, 1.0))


def imagenet_mobilenet_v2() -> Recipe:
    """MobileNet v2 as in the MutualNet paper, table 1."""
    return _mobile("imagenet_mobilenet_v2", "timm:mobilenetv2_100", (0.7, 1.0))


def imagenet_resnet50() -> Recipe:
    """ResNet-50 boosted by its own nearly full widths."""
    return _resnet(
        "imagenet_resnet50",
        "timm:resnet50",
        "ResNet-50 on ImageNet, widths 0.9-1, 120 epochs; the paper's boost of one network",
        ElasticSpace(width_range=(0.9, 1.0), resolutions=_RESOLUTIONS),
    )


def imagenet_seresnet50() -> Recipe:
    """SE-ResNet-50 alone: the comparator of the boosted ResNet-50."""
    return _resnet(
        "imagenet_seresnet50",
        "timm:seresnet50",
        "SE-ResNet-50 alone on ImageNet, 120 epochs; a comparator of imagenet_resnet50",
        ElasticSpace(width_range=(1.0, 1.0), resolutions=(224,)),
        method="independent",
    )


def imagenet_mobilenet_v1_scaled() -> Recipe:
    """MobileNet v1 up to twice its width: budgets of 0.57 to 4.5 G in one network."""
    return _mobile(
        "imagenet_mobilenet_v1_scaled",
        "mobilenet_v1_scaled",
        (1.0, 2.0),
        resolutions=(320, 288, 256, 224),
        kwargs={"depth_mult": 1.0, "width_mult": 2.0},
    )


def imagenet_mobilenet_v1_compound() -> Recipe:
    """MobileNet v1 scaled by EfficientNet's rule, alone: the comparator of the scaled supernet.

    Depth 1.4, width 1.2, resolution 1.3 (288 px): about 2.3 G multiply-adds.
    """
    return _mobile(
        "imagenet_mobilenet_v1_compound",
        "mobilenet_v1_scaled",
        (1.0, 1.0),
        resolutions=(288,),
        kwargs={"depth_mult": 1.4, "width_mult": 1.2},
        method="independent",
    )


def _mobile(
    name: str,
    model: str,
    width_range: tuple[float, float],
    *,
    resolutions: tuple[int, ...] = _RESOLUTIONS,
    kwargs: dict[str, Any] | None = None,
    method: str = "mutualnet",
) -> Recipe:
    low, high = width_range
    title = name.removeprefix("imagenet_").replace("_", " ").replace("mobilenet", "MobileNet")
    sides = "-".join(dict.fromkeys((str(max(resolutions)), str(min(resolutions)))))
    what = f"widths {low:g}-{high:g}, {sides} px" if low < high else f"alone, {sides} px"
    return Recipe(
        name=name,
        description=f"{title} on ImageNet, {what}, 250 epochs",
        model=ModelConfig(name=model, kwargs=kwargs or {}, weight_init="mutualnet"),
        data=DataConfig(name="imagenet", batch_size=1024, num_workers=8),
        space=ElasticSpace(width_range=width_range, resolutions=resolutions),
        optimizer=OptimizerConfig(lr=0.5, epochs=250, weight_decay=1e-4),
        method=MethodConfig(name=method),
    )


def _resnet(
    name: str, model: str, description: str, space: ElasticSpace, method: str = "mutualnet"
) -> Recipe:
    return Recipe(
        name=name,
        description=description,
        model=ModelConfig(name=model, weight_init="mutualnet"),
        data=DataConfig(name="imagenet", batch_size=512, augment="wide_crop", num_workers=8),
        space=space,
        optimizer=OptimizerConfig(lr=0.2, epochs=120, weight_decay=1e-4),
        method=MethodConfig(name=method),
    )
