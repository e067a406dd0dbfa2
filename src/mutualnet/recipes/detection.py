"""Recipes for objects and their masks.

Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978, section 4.4: Mask R-CNN with VGG-16 on
    COCO, short sides of 600 to 240 pixels, the 2x schedule of MMDetection (24 epochs, a tenth of
    the rate after 16 and 22); every sub-network learns from the targets.
Differs: BN trains, where MMDetection freezes it: its statistics are those of one width alone. The
    weights of the backbone come by `--init` from a run on ImageNet. A tenth of the train images is
    held out (`data.select_share`).
"""

from __future__ import annotations

from mutualnet.config import DataConfig, MethodConfig, ModelConfig, OptimizerConfig, Recipe
from mutualnet.space import ElasticSpace


def coco_mask_rcnn_vgg16() -> Recipe:
    """Mask R-CNN with the 13 convolutions of VGG-16, as in the MutualNet paper."""
    return _coco("vgg16", "VGG-16", "vgg16_bn")


def coco_mask_rcnn_resnet50() -> Recipe:
    """Mask R-CNN with ResNet-50."""
    return _coco("resnet50", "ResNet-50", "resnet50")


def _coco(name: str, title: str, backbone: str) -> Recipe:
    return Recipe(
        name=f"coco_mask_rcnn_{name}",
        description=f"Mask R-CNN with {title} on COCO, widths 0.25-1, 600-240 px; --init",
        model=ModelConfig(name="mask_rcnn", kwargs={"backbone": backbone}),
        data=DataConfig(name="coco", batch_size=16, num_workers=4),
        space=ElasticSpace(width_range=(0.25, 1.0), resolutions=(600, 480, 360, 240)),
        method=MethodConfig(distill=False),
        optimizer=OptimizerConfig(
            lr=0.02,
            epochs=24,
            nesterov=False,
            weight_decay=1e-4,
            decay_all=True,
            warmup_epochs=0.07,  # 500 steps of 7,330
            schedule="step",
            milestones=(16, 22),
        ),
        task="instance_segmentation",
    )


def nuclei_mask_rcnn() -> Recipe:
    """A small Mask R-CNN for cell nuclei, which are small and many."""
    return Recipe(
        name="nuclei_mask_rcnn",
        description="Small Mask R-CNN on nuclei in COCO's format, widths 0.25-1, 192-96 px",
        model=ModelConfig(
            name="mask_rcnn",
            kwargs={
                "backbone": "resnet18",
                "backbone_kwargs": {"channels": [32, 64, 128, 256]},
                "strides": [4, 8, 16],
                "anchor_sizes": [10, 20, 40, 80],
                "fpn_channels": 32,
                "head_features": 64,
                "mask_channels": 32,
                "num_mask_convolutions": 1,
                "box_detections_per_img": 200,
                "box_batch_size_per_image": 64,
                "box_positive_fraction": 0.5,
                "rpn_batch_size_per_image": 128,
                "rpn_pre_nms_top_n_train": 400,
                "rpn_post_nms_top_n_train": 200,
                "rpn_pre_nms_top_n_test": 400,
                "rpn_post_nms_top_n_test": 300,
            },
        ),
        data=DataConfig(name="coco", batch_size=4),
        space=ElasticSpace(
            width_range=(0.25, 1.0), width_step=0.25, resolutions=(192, 160, 128, 96)
        ),
        method=MethodConfig(distill=False),
        optimizer=OptimizerConfig(
            name="adamw", lr=2e-3, epochs=20, weight_decay=0.05, warmup_epochs=0.2, clip_norm=10.0
        ),
        task="instance_segmentation",
    )
