"""Detectors of torchvision on a feature pyramid whose backbone is any of timm's networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from mutualnet.models.building_blocks import check_counts

_RATIOS = (0.5, 1.0, 2.0)
"""Heights of anchors over their widths."""


class PyramidBackbone(nn.Module):
    """A classification network without its head, and a feature pyramid on its maps.

    Args:
        name: A network of timm's that can give its feature maps, such as `vgg16_bn` (its 13
            convolutions and their BN), `resnet50` or `mobilenetv2_100`.
        in_channels: Channels of an image.
        strides: Pixels of the image per pixel of each map that the pyramid stands on.
        out_channels: Channels of every map of the pyramid.
        extra_blocks: `pool` for one more map of double the stride, `p6p7` for two.
        kwargs: More arguments of the network's constructor.

    Raises:
        ValueError: If timm has no such network, it gives no feature maps, or none of a stride, if
            strides do not rise, or if the arguments name weights.
    """

    def __init__(
        self,
        name: str,
        in_channels: int = 3,
        *,
        strides: Sequence[int] = (4, 8, 16, 32),
        out_channels: int = 256,
        extra_blocks: str = "pool",
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.body, channels = _feature_maps(name, in_channels, strides, kwargs or {})
        self.fpn = FeaturePyramidNetwork(
            channels,
            out_channels,
            LastLevelMaxPool()
            if extra_blocks == "pool"
            else LastLevelP6P7(out_channels, out_channels),
        )
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Map (N, C, H, W) to maps (N, out_channels, H', W') by name, the finest first."""
        maps = OrderedDict((str(level), value) for level, value in enumerate(self.body(x)))
        pyramid: OrderedDict[str, Tensor] = self.fpn(maps)
        return pyramid


def _feature_maps(
    name: str, in_channels: int, strides: Sequence[int], kwargs: dict[str, Any]
) -> tuple[nn.Module, list[int]]:
    """The network that gives maps of some strides, and the channels of those."""
    # timm would look names such as hf-hub:... up on a server, so only its own list is let through.
    if not timm.is_model(name):
        raise ValueError(
            "backbone must be a network of timm's, such as vgg16_bn, resnet50 or mobilenetv2_100, "
            f"got {name!r}"
        )
    for key in kwargs:
        if key.startswith("pretrained") or key in ("checkpoint_path", "cache_dir"):
            raise ValueError(f"backbone_kwargs must not name weights, got {key}. Use model.init.")
    options = {**kwargs, "pretrained": False, "features_only": True, "in_chans": in_channels}
    try:
        with torch.random.fork_rng(devices=()):
            every: Any = timm.create_model(name, **options)
            found = every.feature_info.reduction()
            # Some networks leave their first maps out unless these are asked for.
            numbers = list(every.feature_info.out_indices)
    except (RuntimeError, AttributeError, NotImplementedError, KeyError) as error:
        raise ValueError(f"backbone {name} gives no feature maps ({error})") from None
    missing = [stride for stride in strides if stride not in found]
    if missing:
        raise ValueError(
            f"backbone must have feature maps of the strides {', '.join(map(str, strides))}, got "
            f"{name} with {', '.join(map(str, found))}"
        )
    if list(strides) != sorted(set(strides)):
        raise ValueError(f"strides must rise, the finest map's first, got {list(strides)}")
    indices = [numbers[found.index(stride)] for stride in strides]
    body: Any = timm.create_model(name, out_indices=indices, **options)
    return body, body.feature_info.channels()


class UnchangedImages(GeneralizedRCNNTransform):
    """Pads images to one size; scaling and normalising belong to the data and the task.

    Detections keep the pixels of the image that the detector sees. Masks stay as the head gives
    them, (M, 1, S, S) of each box by the name `box_masks`, unless they are to be pasted: of 100
    objects in an image of 600 x 1000 pixels they would take 240 MB.

    Args:
        paste_masks: Give `masks` (M, 1, H, W) instead, as torchvision's own detectors do.
    """

    def __init__(self, *, paste_masks: bool = False) -> None:
        super().__init__(min_size=1, max_size=1, image_mean=[], image_std=[])
        self.paste_masks = paste_masks

    def normalize(self, image: Tensor) -> Tensor:
        """The image itself."""
        return image

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Image and target themselves."""
        return image, target

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """The detections with their masks as they are wanted."""
        if self.paste_masks or self.training:
            pasted: list[dict[str, Tensor]] = super().postprocess(
                result, image_shapes, original_image_sizes
            )
            return pasted
        for detections in result:
            if "masks" in detections:
                detections["box_masks"] = detections.pop("masks")
        return result

    def __repr__(self) -> str:
        return f"{type(self).__name__}(paste_masks={self.paste_masks})"


class _Slimmable:
    """What a supernet must know: only the backbone is narrowed, and its body is what is counted."""

    elastic_part = "backbone"
    counted_part = "backbone.body"
    backbone: nn.Module

    def narrow(self, elastic: str) -> None:
        """Choose what is narrowed.

        Args:
            elastic: `backbone`, whose body alone is, as in the MutualNet paper; `pyramid`, with the
                channels between the two convolutions of each of the pyramid's maps; or `all`, with
                those maps and the heads too, whose outputs alone stay.

        Raises:
            ValueError: If it is none of these.
        """
        if elastic not in ("backbone", "pyramid", "all"):
            raise ValueError(f"elastic must be backbone, pyramid or all, got {elastic!r}")
        self.backbone.has_elastic_pyramid = elastic != "backbone"  # type: ignore[assignment]
        if elastic == "all":
            self.elastic_part = ""


class SlimmableMaskRCNN(_Slimmable, MaskRCNN):  # type: ignore[misc]
    """torchvision's Mask R-CNN, whose backbone is elastic."""


class SlimmableFasterRCNN(_Slimmable, FasterRCNN):  # type: ignore[misc]
    """torchvision's Faster R-CNN, whose backbone is elastic."""


class SlimmableRetinaNet(_Slimmable, RetinaNet):  # type: ignore[misc]
    """torchvision's RetinaNet, whose backbone is elastic."""


def mask_rcnn(
    num_classes: int = 80,
    in_channels: int = 3,
    *,
    mask_channels: int = 256,
    num_mask_convolutions: int = 4,
    paste_masks: bool = False,
    elastic: str = "backbone",
    **options: Any,
) -> SlimmableMaskRCNN:
    """Mask R-CNN on a feature pyramid; object classes are numbered from 1.

    Args:
        num_classes: Classes of objects; the background is none of them.
        in_channels: Channels of an image.
        mask_channels: Of every convolution of the mask head.
        num_mask_convolutions: Before the one that doubles the mask's side.
        paste_masks: See `UnchangedImages`.
        elastic: What sub-networks narrow: the `backbone`, the feature `pyramid` too, or `all`.
        options: As for `faster_rcnn`.

    Raises:
        ValueError: If there is no such backbone, or a size is out of its range.

    Source: He et al. 2017, https://arxiv.org/abs/1703.06870, with Lin et al. 2017,
        https://arxiv.org/abs/1612.03144.
    """
    check_counts(mask_channels=mask_channels, num_mask_convolutions=num_mask_convolutions)
    backbone, parts = _two_stage_parts(num_classes, in_channels, **options)
    layers = (mask_channels,) * num_mask_convolutions
    detector = SlimmableMaskRCNN(
        backbone,
        mask_roi_pool=_roi_pool(parts["box_roi_pool"].featmap_names, 14),
        mask_head=MaskRCNNHeads(backbone.out_channels, layers, 1),
        mask_predictor=MaskRCNNPredictor(mask_channels, mask_channels, num_classes + 1),
        **parts,
    )
    detector.transform = UnchangedImages(paste_masks=paste_masks)
    detector.narrow(elastic)
    return detector


def faster_rcnn(
    num_classes: int = 80, in_channels: int = 3, *, elastic: str = "backbone", **options: Any
) -> SlimmableFasterRCNN:
    """Faster R-CNN on a feature pyramid; object classes are numbered from 1.

    Args:
        num_classes: Classes of objects; the background is none of them.
        in_channels: Channels of an image.
        elastic: As for `mask_rcnn`.
        options: `backbone`, `backbone_kwargs` and `strides` as in `PyramidBackbone`,
            `fpn_channels`, `head_features` of the box head's two layers, `anchor_sizes` in pixels
            (one for each stride, and one for double the last), and any of torchvision's numbers
            of FasterRCNN, such as `box_detections_per_img` or `rpn_post_nms_top_n_test`.

    Raises:
        ValueError: If there is no such backbone, or a size is out of its range.

    Source: Ren et al. 2015, https://arxiv.org/abs/1506.01497, with Lin et al. 2017,
        https://arxiv.org/abs/1612.03144.
    """
    backbone, parts = _two_stage_parts(num_classes, in_channels, **options)
    detector = SlimmableFasterRCNN(backbone, **parts)
    detector.transform = UnchangedImages()
    detector.narrow(elastic)
    return detector


def _two_stage_parts(
    num_classes: int,
    in_channels: int,
    *,
    backbone: str = "resnet50",
    backbone_kwargs: dict[str, Any] | None = None,
    strides: Sequence[int] = (4, 8, 16, 32),
    fpn_channels: int = 256,
    head_features: int = 1024,
    anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
    **settings: Any,
) -> tuple[PyramidBackbone, dict[str, Any]]:
    """The backbone, and the other arguments of torchvision's two-stage detectors."""
    check_counts(num_classes=num_classes, fpn_channels=fpn_channels, head_features=head_features)
    _check_settings(FasterRCNN, settings)
    _check_anchors(anchor_sizes, len(strides) + 1)
    pyramid = PyramidBackbone(
        backbone,
        in_channels,
        strides=strides,
        out_channels=fpn_channels,
        kwargs=backbone_kwargs,
    )
    names = [str(level) for level in range(len(strides))]
    parts = {
        "rpn_anchor_generator": _anchors([(size,) for size in anchor_sizes]),
        "box_roi_pool": _roi_pool(names, 7),
        "box_head": TwoMLPHead(fpn_channels * 7**2, head_features),
        "box_predictor": FastRCNNPredictor(head_features, num_classes + 1),
        **settings,
    }
    return pyramid, parts


def retinanet(
    num_classes: int = 80,
    in_channels: int = 3,
    *,
    backbone: str = "resnet50",
    backbone_kwargs: dict[str, Any] | None = None,
    strides: Sequence[int] = (8, 16, 32),
    fpn_channels: int = 256,
    anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
    elastic: str = "backbone",
    **settings: Any,
) -> SlimmableRetinaNet:
    """RetinaNet on a feature pyramid; object classes are numbered from 1.

    Args:
        num_classes: Classes of objects.
        in_channels: Channels of an image.
        backbone: As in `PyramidBackbone`.
        backbone_kwargs: As in `PyramidBackbone`.
        strides: As in `PyramidBackbone`; two coarser maps are added.
        fpn_channels: Of every map of the pyramid, and of the heads.
        anchor_sizes: In pixels, one for each map, of the smallest of three anchors, which lie a
            third of an octave apart.
        elastic: As for `mask_rcnn`.
        settings: Any of torchvision's numbers of RetinaNet, such as `detections_per_img`.

    Raises:
        ValueError: If there is no such backbone, or a size is out of its range.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002.
    Differs: Class 0 is there and never met, as in torchvision's own networks for COCO.
    """
    check_counts(num_classes=num_classes, fpn_channels=fpn_channels)
    _check_settings(RetinaNet, settings)
    _check_anchors(anchor_sizes, len(strides) + 2)
    pyramid = PyramidBackbone(
        backbone,
        in_channels,
        strides=strides,
        out_channels=fpn_channels,
        extra_blocks="p6p7",
        kwargs=backbone_kwargs,
    )
    octaves = [tuple(int(size * 2 ** (third / 3)) for third in range(3)) for size in anchor_sizes]
    detector = SlimmableRetinaNet(
        pyramid, num_classes + 1, anchor_generator=_anchors(octaves), **settings
    )
    detector.transform = UnchangedImages()
    detector.narrow(elastic)
    return detector


def _anchors(sizes: Sequence[Sequence[int]]) -> AnchorGenerator:
    return AnchorGenerator(tuple(map(tuple, sizes)), (_RATIOS,) * len(sizes))


def _roi_pool(names: Sequence[str], side: int) -> MultiScaleRoIAlign:
    return MultiScaleRoIAlign(featmap_names=list(names), output_size=side, sampling_ratio=2)


def _check_settings(kind: type[nn.Module], settings: Mapping[str, Any]) -> None:
    """Refuse what is no number of torchvision's to set: it ignores words that it does not know."""
    parameters = signature(kind).parameters.values()
    known = {p.name for p in parameters if isinstance(p.default, int | float)}
    known -= {"min_size", "max_size"}  # images are left as they are
    for name in settings:
        if name not in known:
            raise ValueError(
                f"{kind.__name__} has no setting {name!r}. torchvision's: "
                f"{', '.join(sorted(known))}"
            )


def _check_anchors(sizes: Sequence[int], count: int) -> None:
    if len(sizes) != count or min(sizes) < 1:
        raise ValueError(
            f"anchor_sizes must be {count} sizes >= 1, one for each map, got {list(sizes)}"
        )
