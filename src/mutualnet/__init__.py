"""Train one network, run it at any budget; let networks that train together teach each other.

The names below load on first use, so that a device that runs an artifact never imports torch.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutualnet.calibration import calibrate
    from mutualnet.cost import CostModel, measure_latency
    from mutualnet.evaluation import evaluate
    from mutualnet.heads import AuxiliaryHeads, Head
    from mutualnet.losses import distillation_loss
    from mutualnet.methods import METHODS, Method, SandwichRule
    from mutualnet.peers import peer_step, peer_step_in_turn
    from mutualnet.sandwich import sandwich_step
    from mutualnet.space import ElasticSpace, Subnet
    from mutualnet.supernet import ChannelRule, MissingStatisticsError, Supernet
    from mutualnet.table import QueryTable
    from mutualnet.teaching import Edge, Node, TeachingGraph

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "AuxiliaryHeads",
    "ChannelRule",
    "CostModel",
    "Edge",
    "ElasticSpace",
    "Head",
    "Method",
    "MissingStatisticsError",
    "Node",
    "QueryTable",
    "SandwichRule",
    "Subnet",
    "Supernet",
    "TeachingGraph",
    "calibrate",
    "distillation_loss",
    "evaluate",
    "measure_latency",
    "peer_step",
    "peer_step_in_turn",
    "sandwich_step",
]

_HOMES = {
    "METHODS": "methods",
    "AuxiliaryHeads": "heads",
    "ChannelRule": "supernet",
    "CostModel": "cost",
    "Edge": "teaching",
    "ElasticSpace": "space",
    "Head": "heads",
    "Method": "methods",
    "MissingStatisticsError": "supernet",
    "Node": "teaching",
    "QueryTable": "table",
    "SandwichRule": "methods",
    "Subnet": "space",
    "Supernet": "supernet",
    "TeachingGraph": "teaching",
    "calibrate": "calibration",
    "distillation_loss": "losses",
    "evaluate": "evaluation",
    "measure_latency": "cost",
    "peer_step": "peers",
    "peer_step_in_turn": "peers",
    "sandwich_step": "sandwich",
}


def __getattr__(name: str) -> Any:
    if name == "RULES":
        warnings.warn(
            "mutualnet.RULES is now mutualnet.METHODS, whose values draw like those of RULES",
            DeprecationWarning,
            stacklevel=2,
        )
        return {name: method.rule for name, method in __getattr__("METHODS").items()}
    if name not in _HOMES:
        raise AttributeError(f"module 'mutualnet' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"mutualnet.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "mutualnet":
            raise
        raise ImportError(
            f"mutualnet.{name} needs {error.name}, which is not installed. "
            "The base install is for devices; to train: pip install 'mutualnet[train]'"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
