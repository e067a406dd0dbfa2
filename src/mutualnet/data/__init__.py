"""Data sets by name, each as a train, a select and a test split, and loaders of their images."""

from __future__ import annotations

from mutualnet.data.clips import video_views
from mutualnet.data.coco import AnnotatedPhotos, Truth
from mutualnet.data.coco_json import AnnotatedImage, Annotation
from mutualnet.data.coco_masks import encode_masks, mask_tools, to_runs
from mutualnet.data.feeding import (
    TrainBatches,
    calibration_loader,
    first_batch,
    part_loader,
    plain_loader,
    train_loader,
)
from mutualnet.data.load import load_data, photo_transform
from mutualnet.data.noise import NoisyLabels
from mutualnet.data.preprocessing import Preprocessing, ResizeToConfiguration, TaskScaling
from mutualnet.data.scaled_objects import LEAST_SIDE, Target, scale_boxes, scale_objects
from mutualnet.data.splits import DataSplits, LabelledImages, SomeImages, hash_data

__all__ = [
    "LEAST_SIDE",
    "AnnotatedImage",
    "AnnotatedPhotos",
    "Annotation",
    "DataSplits",
    "LabelledImages",
    "NoisyLabels",
    "Preprocessing",
    "ResizeToConfiguration",
    "SomeImages",
    "Target",
    "TaskScaling",
    "TrainBatches",
    "Truth",
    "calibration_loader",
    "encode_masks",
    "first_batch",
    "hash_data",
    "load_data",
    "mask_tools",
    "part_loader",
    "photo_transform",
    "plain_loader",
    "scale_boxes",
    "scale_objects",
    "to_runs",
    "train_loader",
    "video_views",
]
