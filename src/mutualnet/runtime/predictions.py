"""What outputs say, in numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mutualnet.space import Subnet


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a configuration says about an image."""

    class_name: str
    """The most likely one."""
    probability: float
    """Of the class, in [0, 1]."""
    probabilities: tuple[float, ...]
    """Of every class, or of every label by itself, in the artifact's order."""
    subnet: Subnet
    """What ran."""

    def __repr__(self) -> str:
        share = f"{100 * self.probability:.1f} %"
        return f"Prediction({self.class_name!r}, {share}, by {self.subnet})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "class": self.class_name,
            "probability": round(self.probability, 6),
            "probabilities": [round(share, 6) for share in self.probabilities],
        }


def mean_over_views(logits: np.ndarray) -> np.ndarray:
    """Logarithms (K) of the mean probabilities over views.

    Args:
        logits: (V, K).
    """
    logits = logits.astype(np.float64)
    shares = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    mean = np.logaddexp.reduce(shares, axis=0) - math.log(len(logits))
    return mean.astype(np.float32)


def probabilities(task: str, logits: np.ndarray) -> np.ndarray:
    """Share of each class (N, K) in [0, 1].

    Args:
        task: One of `TASKS`; the shares add up to 1 but for `multilabel`.
        logits: (N, K).
    """
    logits = logits.astype(np.float64)
    if task == "multilabel":
        return 1 / (1 + np.exp(-logits.clip(-700, 700)))
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)
