"""Which part of the train images is used, and which images choose the table's winners."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Literal

import numpy as np

from mutualnet.data.splits import DataSplits, SomeImages, hash_data, pick_share
from mutualnet.selection import Selection

logger = logging.getLogger(__name__)

TRAINED_SHARE = 0.1
"""Share of the train images that choose where none were held out."""


def use_share(data: DataSplits, share: float, seed: int) -> DataSplits:
    """The data with a part of the train images, the same share of every class.

    Args:
        data: What was loaded.
        share: In (0, 1]; a class keeps at least one image.
        seed: Which images are kept.

    Raises:
        ValueError: If the share is out of its range, or less than one image of every class.
    """
    if not 0 < share <= 1:
        raise ValueError(f"train_share must lie in (0, 1], got {share}")
    if share == 1:
        return data
    strata = _strata(data.train.labels)
    counts = np.bincount(strata)
    if not np.round(share * counts).any():
        raise ValueError(
            f"train_share={share} leaves nothing to train on: the largest of {data.num_classes} "
            f"classes has {counts.max()} images. Raise it."
        )
    kept = pick_share(strata, share, seed=seed, purpose="train")
    select = data.select
    if data.selection.kind == "trained":
        select = SomeImages(data.select, kept)
    train = SomeImages(data.train, kept)
    return replace(data, train=train, select=select, data_id=_id(data, "train", kept, train.labels))


def choose_from(
    data: DataSplits, source: Literal["train", "test"], *, select_share: float, seed: int
) -> DataSplits:
    """The data with the select split that the settings ask for.

    Args:
        data: What was loaded. Where nothing was held out, its select images are its train images.
        source: Where the select images come from.
        select_share: Share of train that was held out; with 0 a tenth of the images that are
            trained on choose.
        seed: Which of them.

    Raises:
        ValueError: If the source is unknown, or is test while images are held out of train.
    """
    if source not in ("train", "test"):
        raise ValueError(f"select_from must be train or test, got {source!r}")
    if source == "test":
        if select_share:
            raise ValueError(
                f"select_from=test would leave the select_share={select_share} of train unused. "
                "Set select_share=0 too."
            )
        selection = Selection(kind="test")
        data_id = _id(data, "select", np.arange(len(data.test)), data.test.labels)
        data = replace(data, select=data.test, selection=selection, data_id=data_id)
    elif data.selection.kind == "trained":
        labels = data.select.labels
        chosen = pick_share(_strata(labels), TRAINED_SHARE, seed=seed, purpose="select")
        select = SomeImages(data.select, chosen)
        data_id = _id(data, "select", chosen, select.labels)
        selection = Selection(kind="trained", share=TRAINED_SHARE)
        data = replace(data, select=select, selection=selection, data_id=data_id)
    if data.selection.suffix:
        logger.info("no images are held out: tables choose on %s", data.selection)
    return data


def _strata(labels: np.ndarray) -> np.ndarray:
    """Class numbers; labels that come together have no strata."""
    return labels if labels.ndim == 1 else np.zeros(len(labels), dtype=np.int64)


def _id(data: DataSplits, split: str, positions: np.ndarray, labels: np.ndarray) -> str:
    return hash_data(data.data_id, {split: (positions.astype(str), labels.tolist())})
