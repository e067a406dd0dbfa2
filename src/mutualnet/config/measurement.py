"""How trained sub-networks are measured: in the table, and while they train."""

from __future__ import annotations

from dataclasses import dataclass

from mutualnet.numbers import check_numbers


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """How the query table is made."""

    num_calibration_samples: int = 2048
    """Training images behind each sub-network's BN statistics."""
    latency_runs: int = 30
    """Timed passes per sub-network."""
    batch_size: int | None = None
    """Images of a batch, None for that of training."""

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.num_calibration_samples < 2:
            raise ValueError(
                f"num_calibration_samples must be >= 2, got {self.num_calibration_samples}"
            )
        if self.batch_size is not None and self.batch_size < 2:
            raise ValueError(f"table.batch_size must be >= 2 or null, got {self.batch_size}")
        if self.latency_runs < 0:
            raise ValueError(f"latency_runs must be >= 0, got {self.latency_runs}")


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Scores of the largest and the smallest sub-network on the way, and at the end of training."""

    every_epochs: int = 5
    """Epochs between two validations; 0 for none, at the end neither."""
    num_images: int = 2048
    """Most images of the select split that a validation scores."""
    num_calibration_samples: int = 256
    """Training images behind the BN statistics of a validation."""

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.every_epochs < 0:
            raise ValueError(f"every_epochs must be >= 0, got {self.every_epochs}")
        if self.num_images < 1:
            raise ValueError(f"num_images must be >= 1, got {self.num_images}")
        if self.num_calibration_samples < 2:
            raise ValueError(
                f"num_calibration_samples must be >= 2, got {self.num_calibration_samples}"
            )
