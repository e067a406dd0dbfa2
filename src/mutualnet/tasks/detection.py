"""Detection of objects, with their masks or without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mutualnet.data import (
    LEAST_SIDE,
    AnnotatedImage,
    Preprocessing,
    Target,
    encode_masks,
    scale_boxes,
    scale_objects,
)
from mutualnet.image_files import read_image
from mutualnet.losses import distillation_loss
from mutualnet.runtime import replaced_when_whole
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet, first_tensor
from mutualnet.tasks.base import ScoreAccumulator, Task
from mutualnet.tasks.box_masks import original_masks
from mutualnet.tasks.box_precision import exact_boxes
from mutualnet.tasks.coco_score import CocoAveragePrecision
from mutualnet.tasks.detector_cost import detector_macs
from mutualnet.tasks.detector_outputs import (
    DetectorLosses,
    check_targets,
    learns_statistics_alone,
    run_backbone,
    run_in_train_mode,
)
from mutualnet.tasks.drawing import FoundObject, draw_objects

_LONG_OVER_SHORT = 5 / 3
"""Sides of what a detector is timed and counted on: 1000 x 600 pixels in the MutualNet paper."""
SEEN = "image_size"
"""By what name detections tell height and width of the image that the detector saw."""
SURE = 0.5
"""Least score of what is told and drawn."""
UNSURE, _FEW = 0.25, 10
"""Least score and number of objects that are drawn where none is sure."""
_LEARNED = ("boxes", "labels", "masks")
"""What a detector gets of a target."""


@dataclass(frozen=True, kw_only=True)
class Detection(Task):
    """Images of any sizes and the boxes on them, for detectors that are called as torchvision's.

    A batch is a list of images (C, H, W) and a list of targets, see `mutualnet.data.Target`. In
    train mode a detector is called with both and returns losses by name, whose sum is learned; in
    eval mode it is called with the images and returns `boxes`, `labels` and `scores` of each.

    Every sub-network learns from the targets, as in the MutualNet paper, unless the method distills
    (`--distill on`): then the divergence of its box head's logits from the largest sub-network's,
    on that one's proposals, takes the place of its loss of classes.

    Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978, section 4.4.
    """

    data_kind: ClassVar[str | None] = "detection"
    learns_in_train_mode_alone: ClassVar[bool] = True
    memory_formats: ClassVar[tuple[str, ...]] = ("contiguous",)
    """With torch 2.15 on CPUs steps of Mask R-CNN in fp32 and channels_last end the process."""
    score_name: ClassVar[str] = "box AP (%)"
    _overlap: ClassVar[Literal["bbox", "segm"]] = "bbox"

    def scale(self, batch: Any, subnet: Subnet) -> tuple[list[Tensor], list[Target]]:
        """Shrink images, boxes and masks until the short side is the resolution."""
        images, targets = batch
        return scale_objects(images, targets, subnet.resolution)

    def inputs(self, batch: Any) -> list[Tensor]:
        """The images."""
        return list(batch[0])

    def split(self, batch: Any, count: int) -> list[Any]:
        """Split a batch into micro-batches of about equal size."""
        images, targets = batch
        places = np.array_split(np.arange(len(images)), count)
        return [([images[i] for i in part], [targets[i] for i in part]) for part in places]

    def run(self, network: Callable[..., Any], batch: Any) -> Any:
        """Losses in train mode, detections in eval mode.

        A detector whose BN layers alone are in train mode is being calibrated: as those are all in
        its backbone as a rule, nothing behind that runs then.
        """
        images, targets = list(batch[0]), batch[1]
        if not isinstance(network, nn.Module):
            return network(images)
        if not network.training and learns_statistics_alone(network):
            return run_backbone(network, images)
        with exact_boxes(network, images[0].device):
            if network.training:
                check_targets(network, targets)
                learned = [{name: t[name] for name in _LEARNED if name in t} for t in targets]
                return run_in_train_mode(network, images, learned)
            return [
                {**found, SEEN: tuple(image.shape[-2:])}
                for found, image in zip(network(images), images, strict=True)
            ]

    def example_inputs(self, supernet: Supernet, subnet: Subnet) -> list[Tensor]:
        """One image of noise whose long side is 5/3 of the resolution, the short side."""
        example = first_tensor(supernet.example_input(subnet))
        return [example_photo(int(example.shape[1]), subnet.resolution)]

    def whole_macs(self, supernet: Supernet, subnet: Subnet) -> dict[str, int] | None:
        """Multiply-adds of a detector of torchvision's by part, for a photo of `example_inputs`."""
        try:
            return detector_macs(supernet, subnet)
        except ValueError:  # a user's own
            return None

    def check_outputs(self, outputs: Any, num_classes: int) -> None:
        """Refuse what is no list of detections.

        Raises:
            ValueError: If it is none.
        """
        wanted = {"boxes", "labels", "scores"}
        is_list = isinstance(outputs, Sequence) and all(isinstance(o, Mapping) for o in outputs)
        if not is_list or not all(wanted <= set(found) for found in outputs):
            raise ValueError(
                "a detector must return boxes, labels and scores of each image in eval mode, as "
                f"torchvision's do, got {type(outputs).__name__}"
            )

    def supervised_loss(self, outputs: Any, batch: Any) -> Tensor:
        """Sum of the detector's losses, each as it averages them.

        Raises:
            TypeError: If outputs are not losses by name.
        """
        return _sum(_losses(outputs).losses)

    def check_batch(self, batch: Any, *, reads_values: bool) -> None:
        """Refuse boxes that are not (M, 4), labels that are not (M) int64 from 1, and odd masks.

        Raises:
            TypeError: If a tensor has the wrong type.
            ValueError: If one is missing, a shape does not fit, a box is empty, a label is 0, or a
                mask holds more than zeros and ones.
        """
        images, targets = batch
        if len(images) != len(targets):
            raise ValueError(
                f"a batch must have a target for each of its {len(images)} images, got "
                f"{len(targets)}. One without objects has boxes (0, 4) and labels (0)."
            )
        for place, (image, target) in enumerate(zip(images, targets, strict=True)):
            self._check_target(f"target {place} of the batch", image, target, reads_values)

    def _check_target(self, where: str, image: Tensor, target: Target, reads_values: bool) -> None:
        if not {"boxes", "labels"} <= set(target):
            raise ValueError(f"{where} must have boxes and labels, got {', '.join(target)}")
        boxes, labels = target["boxes"], target["labels"]
        if not boxes.is_floating_point() or labels.dtype != torch.int64:
            raise TypeError(
                f"{where} must have boxes of floats and labels of int64, got {boxes.dtype} and "
                f"{labels.dtype}"
            )
        if tuple(boxes.shape) != (len(labels), 4) or labels.dim() != 1:
            raise ValueError(
                f"{where} must have boxes (M, 4) and labels (M), got {tuple(boxes.shape)} and "
                f"{tuple(labels.shape)}"
            )
        self._check_masks(where, image, target, reads_values)
        if not reads_values or not len(boxes):
            return
        sides = boxes[:, 2:] - boxes[:, :2]
        least = LEAST_SIDE * max(image.shape[-2:])
        if not bool((sides > least).all() & boxes.isfinite().all()):
            raise ValueError(
                f"{where} must have boxes (left, top, right, bottom) with area, got others. Leave "
                "such objects out."
            )
        if int(labels.min()) < 1:
            raise ValueError(f"{where} must have labels from 1, 0 is the background")

    def check_labels(self, outputs: Any, batch: Any, *, reads_values: bool) -> None:
        """Refuse outputs that are not losses by name.

        Raises:
            TypeError: If they are not.
        """
        _losses(outputs)

    def _check_masks(self, where: str, image: Tensor, target: Target, reads_values: bool) -> None:
        wanted, masks = (len(target["labels"]), *image.shape[-2:]), target.get("masks")
        if masks is None:
            return
        if tuple(masks.shape) != wanted:
            raise ValueError(f"{where} must have masks {wanted}, got {tuple(masks.shape)}")
        if masks.dtype != torch.uint8 and not masks.is_floating_point():
            raise TypeError(
                f"{where} must have masks of uint8, got {masks.dtype}. Convert them: masks.byte()."
            )
        if reads_values and len(masks) and not bool(((masks >= 0) & (masks <= 1)).all()):
            raise ValueError(
                f"{where} must have masks of zeros and ones, got others. Make them so, as by "
                "(masks > 0).byte()."
            )

    def distill_loss(self, outputs: Any, teacher_outputs: Any, tau: float = 1.0) -> Tensor:
        """The losses on targets, but for that of classes, which a divergence takes the place of.

        Raises:
            TypeError: If outputs are not those of detectors in train mode.
            ValueError: If a detector has one stage alone, tau is not positive, or the numbers of
                classes differ.
        """
        divergence = self.divergence(outputs, teacher_outputs, tau)
        losses = _losses(outputs).losses
        others = {name: loss for name, loss in losses.items() if name != "loss_classifier"}
        return _sum(others) + divergence

    def divergence(self, outputs: Any, teacher_outputs: Any, tau: float = 1.0) -> Tensor:
        """That of the box head's logits from the teacher's, on the teacher's proposals.

        In nats, averaged over those.

        Raises:
            TypeError: If outputs are not those of detectors in train mode.
            ValueError: If a detector has one stage alone, tau is not positive, or the numbers of
                classes differ.
        """
        student, teacher = _losses(outputs), _losses(teacher_outputs)
        if student.box_head is None or teacher.box_head is None:
            raise ValueError(
                "distillation needs detectors with the box head of torchvision's Faster R-CNN, got "
                "one without. Let all learn from targets: --distill off, and no --teaching."
            )
        return distillation_loss(
            student.box_head.on_proposals_of(teacher.box_head),
            teacher.box_head.logits,
            tau,
            detach=False,
        )

    def detach(self, outputs: Any) -> Any:
        """Losses and logits without their graph."""
        if isinstance(outputs, DetectorLosses):
            return outputs.detached()
        return super().detach(outputs)

    def describe(self, outputs: Any, class_names: Sequence[str]) -> list[str]:
        """How many objects of each class are at least half sure, the most frequent class first."""
        lines = []
        for found in outputs:
            sure = [
                int(label)
                for label, score in zip(found["labels"], found["scores"], strict=True)
                if float(score) >= SURE
            ]
            counts = Counter(class_names[label - 1] for label in sure if label > 0)
            lines.append(", ".join(f"{n} {name}" for name, n in counts.most_common()) or "nothing")
        return lines

    def one_image(
        self, image: Image.Image, preprocessing: Preprocessing
    ) -> tuple[list[Tensor], list[Target]]:
        """A picture as a batch of one, with nothing on it."""
        target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
        return [preprocessing(image)], [target]

    object_columns: ClassVar[tuple[str, ...]] = ("left", "top", "right", "bottom")

    def objects(self, path: Path, outputs: Any, class_names: Sequence[str]) -> list[dict[str, Any]]:
        """Class, probability and box of each detection in pixels of the file, and its mask.

        The mask is as in COCO's files: compressed run lengths, `size` and `counts`.
        """
        plain = []
        for found in found_objects(outputs[0], read_image(path).size, class_names):
            values = dict(zip(self.object_columns, (round(v, 2) for v in found.box), strict=True))
            mask = {} if found.mask is None else {"mask": _text_runs(found.mask)}
            score = round(found.score, 6)
            plain.append({"class": found.name, "probability": score, **values, **mask})
        return plain

    def draw(self, path: Path, out: Path, outputs: Any, class_names: Sequence[str]) -> None:
        """Write the picture with boxes, masks, names and scores of what is at least half sure.

        Where that is nothing, with the ten surest of those that are a quarter sure.

        Raises:
            ValueError: If the ending of the name to write is that of no image.
        """
        picture = read_image(path)
        objects = found_objects(outputs[0], picture.size, class_names, least=SURE)
        if not objects:  # a network that has hardly been trained is sure of nothing
            unsure = found_objects(outputs[0], picture.size, class_names, least=UNSURE)
            objects = sorted(unsure, key=lambda thing: -thing.score)[:_FEW]
        drawn = draw_objects(picture, objects)
        with replaced_when_whole(out) as new:
            drawn.save(new)

    def new_score(self) -> ScoreAccumulator:
        """Start collecting detections."""
        return CocoAveragePrecision(self._overlap)


@dataclass(frozen=True, kw_only=True)
class InstanceSegmentation(Detection):
    """Detection whose objects have masks, in targets and in what is found."""

    data_kind: ClassVar[str | None] = "instance_segmentation"
    score_name: ClassVar[str] = "mask AP (%)"
    _overlap: ClassVar[Literal["bbox", "segm"]] = "segm"

    def check_outputs(self, outputs: Any, num_classes: int) -> None:
        """Refuse what is no list of detections with masks.

        Raises:
            ValueError: If it is none.
        """
        super().check_outputs(outputs, num_classes)
        if not all({"masks", "box_masks"} & set(found) for found in outputs):
            raise ValueError(
                "a detector must return masks to be scored by them. Take one with a mask head, or "
                "data without masks (coco_boxes)."
            )


def found_objects(
    found: Mapping[str, Any], size: tuple[int, int], class_names: Sequence[str], least: float = 0.0
) -> list[FoundObject]:
    """Detections of one image in pixels of the original, those of the background left out.

    Args:
        found: As `Detection.run` gives them.
        size: Width and height of the original image.
        class_names: Of the K classes, which are numbered from 1.
        least: Score to be listed.
    """
    kept = (found["labels"] > 0) & (found["scores"] >= least)
    chosen = {n: v[kept].cpu() for n, v in found.items() if isinstance(v, Tensor)}
    full = AnnotatedImage(0, "", size[1], size[0], ())
    masks: list[np.ndarray | None] = [None] * len(chosen["boxes"])
    if {"masks", "box_masks"} & set(chosen):
        masks = [mask for part in original_masks(chosen, found[SEEN], full) for mask in part]
    boxes = scale_boxes(chosen["boxes"].float(), found[SEEN], (full.height, full.width))
    return [
        FoundObject(
            box=(box[0], box[1], box[2], box[3]),
            label=label,
            name=class_names[label - 1],
            score=score,
            mask=mask,
        )
        for box, label, score, mask in zip(
            boxes.tolist(),
            chosen["labels"].tolist(),
            chosen["scores"].tolist(),
            masks,
            strict=True,
        )
    ]


def _text_runs(mask: np.ndarray) -> dict[str, Any]:
    runs = encode_masks(mask[None])[0]
    return {"size": list(runs["size"]), "counts": runs["counts"].decode()}


def example_photo(channels: int, resolution: int) -> Tensor:
    """Noise (C, H, W), always the same, of the proportions of a photo."""
    generator = torch.Generator().manual_seed(0)
    side = round(resolution * _LONG_OVER_SHORT)
    return torch.randn(channels, resolution, side, generator=generator)


def _losses(outputs: Any) -> DetectorLosses:
    if isinstance(outputs, DetectorLosses):
        return outputs
    if isinstance(outputs, Mapping) and all(isinstance(v, Tensor) for v in outputs.values()):
        return DetectorLosses(outputs)
    raise TypeError(
        "a detector must return its losses by name in train mode, as torchvision's do, got "
        f"{type(outputs).__name__}"
    )


def _sum(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()
