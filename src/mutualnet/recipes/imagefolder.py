"""Recipes on folders of photos.

Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978, section 4, for MobileNet v1.
Differs: Batches of 64 with a learning rate in proportion, a warm-up over 5 epochs, and timm's
    initial weights. For photos with several labels 100 epochs.
"""

from __future__ import annotations

from mutualnet.config import DataConfig, ModelConfig, OptimizerConfig, Recipe
from mutualnet.space import ElasticSpace


def imagefolder_mobilenet_v1() -> Recipe:
    """MobileNet v1 as in the MutualNet paper, for a batch that fits a small machine."""
    return Recipe(
        name="imagefolder_mobilenet_v1",
        description="MobileNet v1 on any folder of photos, 224-128 px, widths 0.25-1, 250 epochs",
        model=ModelConfig(name="timm:mobilenetv1_100"),
        data=DataConfig(name="imagefolder", batch_size=64, num_workers=2),
        space=ElasticSpace(width_range=(0.25, 1.0), resolutions=(224, 192, 160, 128)),
        # The paper's 0.5 is for batches of 1024; the learning rate goes with the batch size.
        optimizer=OptimizerConfig(lr=0.03, epochs=250, warmup_epochs=5, weight_decay=1e-4),
    )


def multilabel_mobilenet_v1() -> Recipe:
    """MobileNet v1 for photos that carry several labels each."""
    return Recipe(
        name="multilabel_mobilenet_v1",
        description="MobileNet v1 on photos with several labels (labels.csv), widths 0.25-1",
        model=ModelConfig(name="timm:mobilenetv1_100"),
        data=DataConfig(name="multilabel", batch_size=64, num_workers=2),
        space=ElasticSpace(width_range=(0.25, 1.0), resolutions=(224, 192, 160, 128)),
        optimizer=OptimizerConfig(lr=0.03, epochs=100, warmup_epochs=5, weight_decay=1e-4),
        task="multilabel",
    )
