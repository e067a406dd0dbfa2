"""The BN bank: running statistics of every calibrated sub-network, and what they were made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mutualnet.file_mode import mode_of_new_files

FORMAT_VERSION = 2
"""Version of a bank with sub-networks of several depths, which an older reader would take for
those of full depth; other banks are version 1 still."""


HOW_TO_CALIBRATE = "mutualnet.calibrate(supernet, batches, subnets, task=..., data_id=...)"


class MissingStatisticsError(RuntimeError):
    """A sub-network is to run in eval mode, but the bank lacks fresh statistics for it."""


@dataclass(frozen=True, slots=True)
class BankKey:
    """What BN statistics depend on besides weights and data."""

    counts: tuple[int, ...]
    """Active channels of every group."""
    resolution: int
    num_frames: int | None = None
    depths: tuple[int, ...] | None = None
    """Blocks of every stage that run; None if all do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BNStatistics:
    """Running mean and variance of every BN layer of one sub-network, laid end to end."""

    mean: Tensor
    """(C,) float32 on the CPU, C channels of all BN layers together."""
    var: Tensor
    """(C,) float32, unbiased as in PyTorch."""
    num_samples: int
    """Training images they were pooled over."""
    batch_size: int
    """Images that were normalised together; part of what the statistics are."""
    data_id: str
    """Hash of the data they were made from."""
    weights_version: int
    """State of the supernet's weights when they were made."""


def tracked_norms(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    """BN layers that keep running statistics, with their names, in the model's order."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


class BNBank(Mapping[BankKey, BNStatistics]):
    """Statistics of sub-networks by channel counts and resolution.

    Entries are replaced, never changed, so that reading from several threads is safe.
    """

    def __init__(self) -> None:
        self._entries: dict[BankKey, BNStatistics] = {}

    def __getitem__(self, key: BankKey) -> BNStatistics:
        return self._entries[key]

    def __iter__(self) -> Iterator[BankKey]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: BankKey, statistics: BNStatistics) -> None:
        """Add or replace the statistics of one sub-network."""
        self._entries[key] = statistics

    def save(self, path: Path, *, weights_hash: str, weights_version: int) -> None:
        """Write the fresh entries to one safetensors file.

        Args:
            path: Where to.
            weights_hash: Identifies the weights the statistics belong to.
            weights_version: Current version of the weights; entries of older ones are left out.
        """
        tensors: dict[str, Tensor] = {}
        entries: list[dict[str, Any]] = []
        fresh = [(k, s) for k, s in self.items() if s.weights_version == weights_version]
        for number, (key, statistics) in enumerate(fresh):
            tensors[f"{number}.mean"] = statistics.mean.contiguous()
            tensors[f"{number}.var"] = statistics.var.contiguous()
            entries.append(
                asdict(key)
                | {
                    "num_samples": statistics.num_samples,
                    "batch_size": statistics.batch_size,
                    "data_id": statistics.data_id,
                }
            )
        header = {
            "format": "mutualnet.bn_bank",
            "version": str(1 if all(key.depths is None for key, _ in fresh) else FORMAT_VERSION),
            "weights_hash": weights_hash,
            "entries": json.dumps(entries),
        }
        with mode_of_new_files(path):
            save_file(tensors, path, metadata=header)

    def load(self, path: Path, *, weights_hash: str, weights_version: int) -> None:
        """Add the entries of a file that `save` wrote.

        Args:
            path: Where from.
            weights_hash: Of the present weights. Statistics of other weights are refused.
            weights_version: Present version of the weights, which the entries get.

        Raises:
            ValueError: If the file is damaged, not a BN bank, of another format version, or belongs
                to other weights.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a readable BN bank ({error})") from None
        if header.get("format") != "mutualnet.bn_bank":
            raise ValueError(f"{path} is not a BN bank")
        if header.get("version") not in ("1", str(FORMAT_VERSION)):
            raise ValueError(
                f"{path} has BN bank format {header.get('version')}, this version reads "
                f"1 and {FORMAT_VERSION}. Calibrate again."
            )
        if header.get("weights_hash") != weights_hash:
            raise ValueError(
                f"{path} belongs to other weights than the ones loaded. Calibrate again."
            )
        try:
            entries = _read_entries(header["entries"], tensors, weights_version)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not a readable BN bank: its list of entries does not fit its tensors "
                f"({type(error).__name__}: {error}). Calibrate again."
            ) from None
        for key, statistics in entries.items():
            self.put(key, statistics)


def _read_entries(
    text: str, tensors: dict[str, Tensor], weights_version: int
) -> dict[BankKey, BNStatistics]:
    entries = {}
    for number, entry in enumerate(json.loads(text)):
        key = BankKey(
            counts=tuple(entry["counts"]),
            resolution=entry["resolution"],
            num_frames=entry["num_frames"],
            depths=None if entry.get("depths") is None else tuple(entry["depths"]),
        )
        entries[key] = BNStatistics(
            mean=tensors[f"{number}.mean"],
            var=tensors[f"{number}.var"],
            num_samples=entry["num_samples"],
            batch_size=entry["batch_size"],
            data_id=entry["data_id"],
            weights_version=weights_version,
        )
    return entries


def write_statistics(norms: Sequence[_BatchNorm], statistics: BNStatistics) -> None:
    """Copy stored statistics into the running buffers of a sub-network's BN layers."""
    sizes = [norm.num_features for norm in norms]
    with torch.no_grad():
        for norm, mean, var in zip(
            norms,
            statistics.mean.split(sizes),
            statistics.var.split(sizes),
            strict=True,
        ):
            assert norm.running_mean is not None  # tracked_norms() picks only such layers
            assert norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
