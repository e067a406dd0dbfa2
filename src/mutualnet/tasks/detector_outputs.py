"""What a detector gives in train mode: its losses, and what its box head makes of proposals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mutualnet.data import scale_boxes

_Size = tuple[int, int]
_NUM_CLASSES = (
    "roi_heads.box_predictor.cls_score.out_features",
    "head.classification_head.num_classes",
    "head.classification_head.num_columns",
)
"""Where torchvision's detectors have their number of classes, the background's included."""


@dataclass(frozen=True)
class BoxHead:
    """How the box head of a two-stage detector answered, and how to ask it for other proposals."""

    proposals: list[Tensor]
    """(P, 4) of each image, in pixels."""
    sizes: list[_Size]
    """Height and width of each image."""
    logits: Tensor
    """(sum of P, K + 1), the background's first."""
    ask: Callable[[list[Tensor]], Tensor] | None
    """Logits for proposals of the same images; None once the features are let go of."""

    def on_proposals_of(self, other: BoxHead) -> Tensor:
        """Logits for another detector's proposals on the same images, at whatever size it saw."""
        assert self.ask is not None
        return self.ask(
            [
                scale_boxes(boxes, before, after)
                for boxes, before, after in zip(
                    other.proposals, other.sizes, self.sizes, strict=True
                )
            ]
        )


@dataclass(frozen=True)
class DetectorLosses:
    """What a detector gives in train mode."""

    losses: Mapping[str, Tensor]
    """Scalars by torchvision's names."""
    box_head: BoxHead | None = None
    """None for detectors without one."""

    def detached(self) -> DetectorLosses:
        """The same without its graph, as a target."""
        head = self.box_head
        if head is not None:
            head = replace(
                head,
                proposals=[boxes.detach() for boxes in head.proposals],
                logits=head.logits.detach(),
                ask=None,
            )
        return DetectorLosses({name: v.detach() for name, v in self.losses.items()}, head)


def run_in_train_mode(network: nn.Module, images: list[Tensor], targets: list[Any]) -> Any:
    """Losses of a detector for images and targets, with its box head's answers if it has one."""
    heads: Any = getattr(network, "roi_heads", None)
    pool, predictor = (getattr(heads, name, None) for name in ("box_roi_pool", "box_predictor"))
    if not isinstance(pool, nn.Module) or not isinstance(predictor, nn.Module):
        return DetectorLosses(network(images, targets))
    pooled: list[Any] = []
    predicted: list[Any] = []
    with ExitStack() as hooks:
        hook = pool.register_forward_pre_hook(lambda _, args: pooled.append(args))
        hooks.callback(hook.remove)
        hook = predictor.register_forward_hook(lambda _, __, out: predicted.append(out))
        hooks.callback(hook.remove)
        losses = network(images, targets)
    features, proposals, sizes = pooled[0]

    def ask(boxes: list[Tensor]) -> Tensor:
        logits: Tensor = predictor(heads.box_head(pool(features, boxes, sizes)))[0]
        return logits

    return DetectorLosses(losses, BoxHead(list(proposals), list(sizes), predicted[0][0], ask))


def check_targets(network: nn.Module, targets: Sequence[Mapping[str, Any]]) -> None:
    """Refuse targets with which one of torchvision's detectors would fail.

    Raises:
        ValueError: If a label is beyond its classes, or masks are missing for its mask head.
    """
    has_mask = getattr(getattr(network, "roi_heads", None), "has_mask", None)
    if has_mask is not None and has_mask() and not all("masks" in target for target in targets):
        raise ValueError(
            "targets must have masks for a detector with a mask head, got some without. Take data "
            "with masks (coco), or a network without that head (faster_rcnn)."
        )
    labels = [target["labels"] for target in targets if len(target["labels"])]
    count = next((n for n in map(partial(_value_at, network), _NUM_CLASSES) if n is not None), None)
    if count is None or not labels:
        return
    highest = int(torch.cat(labels).max())
    if highest >= count:
        raise ValueError(
            f"labels of objects must lie in 1..{count - 1}, got {highest}. Number the classes from "
            "1, or build the detector with more."
        )


def _value_at(owner: Any, path: str) -> int | None:
    for name in path.split("."):
        owner = getattr(owner, name, None)
    return owner if isinstance(owner, int) else None


def learns_statistics_alone(network: nn.Module) -> bool:
    """Whether a detector in eval mode runs for the statistics of its backbone's BN layers alone."""
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, nn.Module) or not hasattr(network, "transform"):
        return False
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    inner = {module for module in backbone.modules() if isinstance(module, _BatchNorm)}
    return any(norm.training for norm in norms) and inner.issuperset(norms)


def run_backbone(network: nn.Module, images: list[Tensor]) -> Any:
    """The maps of a detector's backbone for images, padded to one size as the detector does."""
    padded, _ = network.transform(images)  # type: ignore[operator]
    return network.backbone(padded.tensors)  # type: ignore[operator]
