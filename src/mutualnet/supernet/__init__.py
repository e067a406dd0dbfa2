"""One model that runs as any of its sub-networks.

The model is traced for channels that are tied together; a sub-network is the same model, narrower,
on views into its weights, and its BN statistics are kept in a bank. Start at `supernet`.
"""

from __future__ import annotations

from mutualnet.supernet.bn_bank import (
    BankKey,
    BNBank,
    BNStatistics,
    MissingStatisticsError,
    tracked_norms,
)
from mutualnet.supernet.channel_plan import index_length
from mutualnet.supernet.channel_rules import ChannelRule
from mutualnet.supernet.depth_plan import is_inside
from mutualnet.supernet.examples import ExampleMaker, first_tensor
from mutualnet.supernet.meta_copy import meta_copy
from mutualnet.supernet.products import Products, find_products
from mutualnet.supernet.shared_gradients import ignore_layout_warning
from mutualnet.supernet.supernet import Supernet, WeightSlice, temporary_bank

__all__ = [
    "BNBank",
    "BNStatistics",
    "BankKey",
    "ChannelRule",
    "ExampleMaker",
    "MissingStatisticsError",
    "Products",
    "Supernet",
    "WeightSlice",
    "find_products",
    "first_tensor",
    "ignore_layout_warning",
    "index_length",
    "is_inside",
    "meta_copy",
    "temporary_bank",
    "tracked_norms",
]
