"""Data sets by name, each as a train, a select and a test split, and loaders of their images."""

from __future__ import annotations

from mutualnet.data.feeding import (
    TrainBatches,
    calibration_loader,
    part_loader,
    plain_loader,
    train_loader,
)
from mutualnet.data.load import load_data, photo_transform
from mutualnet.data.noise import NoisyLabels
from mutualnet.data.preprocessing import Preprocessing, ResizeToConfiguration, TaskScaling
from mutualnet.data.splits import DataSplits, LabelledImages, hash_data

__all__ = [
    "DataSplits",
    "LabelledImages",
    "NoisyLabels",
    "Preprocessing",
    "ResizeToConfiguration",
    "TaskScaling",
    "TrainBatches",
    "calibration_loader",
    "hash_data",
    "load_data",
    "part_loader",
    "photo_transform",
    "plain_loader",
    "train_loader",
]
