"""Data sets by name, each as a train, a select and a test split."""

from __future__ import annotations

from mutualnet.data.load import load_data, photo_transform
from mutualnet.data.splits import DataSplits

__all__ = ["DataSplits", "load_data", "photo_transform"]
