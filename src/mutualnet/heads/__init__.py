"""Auxiliary classifiers on inner layers of a network, gone after training.

`auxiliary` attaches them by module path, `blocks` builds them, `presets` has the published ones.
"""

from __future__ import annotations

from mutualnet.heads.auxiliary import AuxiliaryHeads, Head
from mutualnet.heads.blocks import Blocks
from mutualnet.heads.presets import (
    HEAD_PRESETS,
    as_variant,
    cifar_resnet_heads,
    head_preset,
    wide_resnet_heads,
)

__all__ = [
    "HEAD_PRESETS",
    "AuxiliaryHeads",
    "Blocks",
    "Head",
    "as_variant",
    "cifar_resnet_heads",
    "head_preset",
    "wide_resnet_heads",
]
