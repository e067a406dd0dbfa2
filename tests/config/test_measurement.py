"""How sub-networks are measured, as settings."""

from __future__ import annotations

import pytest

from mutualnet.config.measurement import TableConfig, WatchConfig


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (TableConfig, {"num_calibration_samples": 1}, "num_calibration_samples must be >= 2"),
        (TableConfig, {"latency_runs": -1}, "latency_runs must be >= 0"),
        (TableConfig, {"batch_size": 1}, "table.batch_size must be >= 2 or null, got 1"),
        (WatchConfig, {"every_epochs": -1}, "every_epochs must be >= 0, got -1"),
        (WatchConfig, {"num_images": 2**60}, r"num_images must lie below 2\*\*53"),
        (WatchConfig, {"num_images": 0}, "num_images must be >= 1, got 0"),
        (
            WatchConfig,
            {"num_calibration_samples": 1},
            "num_calibration_samples must be >= 2, got 1",
        ),
    ],
)
def test_settings_check_themselves(kind, values, message):
    with pytest.raises(ValueError, match=message):
        kind(**values)
