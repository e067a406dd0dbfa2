"""COCO's average precision of detections, by faster-coco-eval."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mutualnet.data import (
    AnnotatedImage,
    Annotation,
    Target,
    encode_masks,
    mask_tools,
    scale_boxes,
    to_runs,
)
from mutualnet.tasks.base import Score, ScoreAccumulator
from mutualnet.tasks.box_masks import original_masks

MOST_DETECTIONS = 100
"""Of an image, in COCO's rules; a detector that is allowed more is scored on all of its."""
_NUM_RESAMPLES = 50
"""Bootstrap samples behind a standard error."""


class CocoAveragePrecision(ScoreAccumulator):
    """Average precision over IoU 0.50 to 0.95 and over classes, in percent.

    Detections are compared with the original annotations in pixels of the original image, whatever
    size the detector saw. What lies in a crowd is neither right nor wrong, and classes without an
    object are left out, as in COCO's rules. The standard error is that of resampled images.

    Args:
        kind: What must overlap: boxes or masks.
        num_classes: K; objects of other classes are not counted. None for any.

    Source: Lin et al. 2014, https://arxiv.org/abs/1405.0312, and the authors' evaluation code.
    """

    def __init__(self, kind: Literal["bbox", "segm"], num_classes: int | None = None) -> None:
        self.kind = kind
        self._num_classes = num_classes
        self._images: list[AnnotatedImage] = []
        self._detections: list[dict[str, Any]] = []
        self._most = MOST_DETECTIONS

    def update(self, outputs: Any, batch: Any) -> None:
        """Keep the detections of every image, one mapping for each.

        Args:
            outputs: `boxes` (M, 4), `labels` (M) from 1 and `scores` (M) of each image, and for
                masks `masks` (M, 1, H, W) or, of the boxes alone, `box_masks` (M, 1, S, S), as
                shares in [0, 1].
            batch: Images and targets.
        """
        images, targets = batch
        for found, image, target in zip(outputs, images, targets, strict=True):
            size = (int(image.shape[-2]), int(image.shape[-1]))
            truth = truth_of(target, size, len(self._images))
            self._images.append(truth)
            kept = list(self._read(found, size, truth))
            self._most = max(self._most, len(kept))
            self._detections += kept

    def _read(
        self, found: Mapping[str, Any], size: tuple[int, int], truth: AnnotatedImage
    ) -> Iterator[dict[str, Any]]:
        is_class = found["labels"] > 0
        if self._num_classes is not None:
            is_class &= found["labels"] <= self._num_classes
        found = {n: v[is_class].detach() for n, v in found.items() if isinstance(v, Tensor)}
        boxes = scale_boxes(found["boxes"].float(), size, (truth.height, truth.width))
        runs: Sequence[dict[str, Any]] = ()
        if self.kind == "segm":
            runs = [
                run for part in original_masks(found, size, truth) for run in encode_masks(part)
            ]
        corners, labels = boxes.double().cpu().numpy(), found["labels"].tolist()
        for number, (label, score) in enumerate(
            zip(labels, found["scores"].double().tolist(), strict=True)
        ):
            left, top, right, bottom = corners[number].tolist()
            yield {
                "image_id": len(self._images),
                "category_id": label,
                "bbox": [left, top, right - left, bottom - top],
                "score": score,
                **({"segmentation": runs[number]} if runs else {}),
            }

    def compute(self) -> Score:
        """Average precision over all images so far, in percent.

        Raises:
            ValueError: If there were none, none of them has an object, or faster-coco-eval is not
                installed.
        """
        if not self._images:
            raise ValueError("a score needs at least one sample, got none. Is the data empty?")
        if not any(not a.is_crowd for image in self._images for a in image.annotations):
            raise ValueError("average precision needs images with objects, got none")
        evaluated = _Evaluated(self.kind, self._most, self._images, self._detections)
        rng = np.random.default_rng(0)
        count = len(self._images)
        resampled = [
            evaluated.average_precision(rng.integers(0, count, count))
            for _ in range(_NUM_RESAMPLES)
        ]
        value = evaluated.average_precision(np.arange(count))
        assert value is not None
        return Score(
            value=value,
            standard_error=float(np.std([value for value in resampled if value is not None])),
            num_samples=count,
        )


class _Evaluated:
    """Which detection of which image is right, found once; precision over any choice of images."""

    def __init__(
        self,
        kind: str,
        most: int,
        images: Sequence[AnnotatedImage],
        detections: list[dict[str, Any]],
    ) -> None:
        mask_tools()  # says in one line that the package is missing
        from faster_coco_eval import COCO, COCOeval_faster

        labels = {a.category for image in images for a in image.annotations if not a.is_crowd}
        truth = COCO(_plain(kind, images, sorted(labels)))
        found = COCO({"images": truth.dataset["images"], "categories": truth.dataset["categories"]})
        known = [d for d in detections if d["category_id"] in labels]
        if known:
            found = truth.loadRes(known)
        evaluation = COCOeval_faster(
            truth,
            found,
            kind,
            print_function=lambda *_: None,
            separate_eval=True,
            rle_iou_max_workers=torch.get_num_threads(),
        )
        evaluation.params.maxDets = [most]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        # One record for each class and, inside of it, for each image.
        self._records = evaluation._evalImgs_cpp
        self._params = evaluation._paramsEval
        self._num_images = len(images)

    def average_precision(self, chosen: np.ndarray) -> float | None:
        """In percent, of some images, which may come several times; None if they have no object."""
        from faster_coco_eval import faster_eval_api_cpp

        starts = range(0, len(self._records), self._num_images)
        records = [self._records[start + place] for start in starts for place in chosen]
        result = faster_eval_api_cpp.COCOevalAccumulate(copy.deepcopy(self._params), records)
        precision = np.asarray(result["precision"])
        known = precision[precision > -1]
        return 100 * float(known.mean()) if known.size else None


def _plain(kind: str, images: Sequence[AnnotatedImage], labels: Sequence[int]) -> dict[str, Any]:
    """Ground truth as faster-coco-eval reads it, images numbered as they came."""
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        for annotation in image.annotations:
            plain = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": annotation.category,
                "bbox": list(annotation.box),
                "area": annotation.area,
                "iscrowd": int(annotation.is_crowd),
            }
            if kind == "segm":
                plain["segmentation"] = to_runs(annotation.segmentation, image.height, image.width)
            annotations.append(plain)
    return {
        "images": [
            {"id": number, "height": image.height, "width": image.width}
            for number, image in enumerate(images, 1)
        ],
        "annotations": [a for a in annotations if a["category_id"] in set(labels)],
        "categories": [{"id": label, "name": str(label)} for label in labels],
    }


def truth_of(target: Target, size: tuple[int, int], number: int = 0) -> AnnotatedImage:
    """The original annotations of a target, or the target itself where data came without.

    Args:
        target: As a data set gives it.
        size: Height and width of the image that it is for.
        number: Of the image.
    """
    if "truth" in target:
        known: AnnotatedImage = target["truth"].image
        return known
    boxes = target["boxes"].double().cpu().tolist()
    masks = target.get("masks")
    runs = encode_masks(masks.cpu().numpy()) if masks is not None else [None] * len(boxes)
    objects = [
        Annotation(
            category=int(label),
            box=(left, top, right - left, bottom - top),
            segmentation=run,
            is_crowd=False,
            area=(right - left) * (bottom - top),
        )
        for (left, top, right, bottom), label, run in zip(
            boxes, target["labels"], runs, strict=True
        )
    ]
    return AnnotatedImage(number, "", *size, tuple(objects))
