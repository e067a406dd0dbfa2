"""Settings of the data check themselves."""

from __future__ import annotations

import pytest

from mutualnet.config.data import DataConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 1}, "batch_size must be >= 2"),
        ({"resolution": 0}, "resolution must be >= 1 or null, got 0"),
        ({"select_share": 1}, r"select_share must lie in \[0, 1\), got 1"),
        ({"select_from": "val"}, "select_from must be one of train, test, got 'val'"),
        ({"select_from": "test"}, "would leave the select_share=0.1 of train unused"),
        ({"max_damaged_share": 1}, r"max_damaged_share must lie in \[0, 1\), got 1"),
        ({"num_workers": -1}, "num_workers must be >= 0"),
        ({"train_share": 0}, r"train_share must lie in \(0, 1\], got 0"),
        ({"label_noise": 1.5}, r"label_noise must lie in \[0, 1\], got 1.5"),
        ({"cutout": -1}, "cutout must be >= 0, got -1"),
        ({"mixup_alpha": -0.1}, "mixup_alpha must be >= 0, got -0.1"),
        ({"cutmix_alpha": -0.1}, "cutmix_alpha must be >= 0, got -0.1"),
        ({"policy": "auto"}, "policy must be one of none, autoaugment, fast_autoaugment, got"),
        ({"balance": "yes"}, "balance must be one of none, loss, sampling, got 'yes'"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(name="digits", **values)


def test_data_are_called_by_their_folder_or_else_by_their_name():
    assert DataConfig(name="cifar10", path="data/c").place == "data/c"
    assert DataConfig(name="digits").place == "digits"
