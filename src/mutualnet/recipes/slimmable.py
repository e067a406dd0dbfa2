"""Recipes for slimmable networks on ImageNet: four widths of one network, each with its own BN.

Source: Yu et al. 2019, https://arxiv.org/abs/1812.08928, section 4, and the authors' code, whose
    initial weights are those of `model.weight_init=mutualnet`.
Differs: The last BN of MobileNet v2, which has 1280 channels at every width, has weights for each
    width like the others; the code shares it. A table replaces running statistics by those of 2,048
    train images. Lighting noise is left out: the code's moves a pixel by one grey level at most. A
    tenth of the train images is held out (`data.select_share`). The slimmable ShuffleNet has no
    recipe.
"""

from __future__ import annotations

from mutualnet.config import DataConfig, MethodConfig, ModelConfig, OptimizerConfig, Recipe
from mutualnet.space import ElasticSpace


def imagenet_mobilenet_v1_s_net() -> Recipe:
    """MobileNet v1 at a quarter, a half, three quarters and all of its width."""
    return _mobile("mobilenet_v1", "timm:mobilenetv1_100", (0.25, 0.5, 0.75, 1.0))


def imagenet_mobilenet_v2_s_net() -> Recipe:
    """MobileNet v2 at 0.35, a half, three quarters and all of its width."""
    return _mobile("mobilenet_v2", "timm:mobilenetv2_100", (0.35, 0.5, 0.75, 1.0))


def imagenet_resnet50_s_net() -> Recipe:
    """ResNet-50 at a quarter, a half, three quarters and all of its width."""
    return _s_net(
        "imagenet_resnet50_s_net",
        "timm:resnet50",
        "slimmable ResNet-50",
        (0.25, 0.5, 0.75, 1.0),
        DataConfig(name="imagenet", batch_size=256, augment="wide_crop", num_workers=8),
        OptimizerConfig(lr=0.1, epochs=100, schedule="step", milestones=(30, 60, 90), gamma=0.1),
    )


def _mobile(name: str, model: str, widths: tuple[float, ...]) -> Recipe:
    return _s_net(
        f"imagenet_{name}_s_net",
        model,
        f"slimmable {name.replace('mobilenet_', 'MobileNet ')}",
        widths,
        DataConfig(name="imagenet", batch_size=160, num_workers=8),
        OptimizerConfig(lr=0.045, epochs=480, schedule="exponential", gamma=0.98),
    )


def _s_net(
    name: str,
    model: str,
    title: str,
    widths: tuple[float, ...],
    data: DataConfig,
    optimizer: OptimizerConfig,
) -> Recipe:
    listed = ", ".join(f"{width:g}" for width in widths)
    return Recipe(
        name=name,
        description=f"{title} on ImageNet, widths {listed} at 224 px, {optimizer.epochs} epochs",
        model=ModelConfig(name=model, weight_init="mutualnet"),
        data=data,
        space=ElasticSpace(widths=widths, resolutions=(224,)),
        optimizer=optimizer,
        method=MethodConfig(name="s_net"),
    )
