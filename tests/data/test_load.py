"""Data by name."""

from __future__ import annotations

import pytest

from mutualnet.data import load_data


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cifar", {}, r"one of cifar10, cifar100, coco, .*, got 'cifar'. Did you mean"),
        ("digits", {"resolution": 0}, "resolution must be a whole number of pixels >= 1, got 0"),
        ("digits", {"resolution": 8.5}, "resolution must be a whole number of pixels"),
        ("digits", {"path": "x"}, "path must be None for digits"),
        ("digits", {"augment": "wide_crop"}, "augment must be one of standard, none, got"),
        ("digits", {"select_share": -0.1}, r"select_share must be in \[0, 1\), got -0.1"),
        ("digits", {"select_share": 1}, r"select_share must be in \[0, 1\), got 1"),
        ("digits", {"download": True}, "digits has no option 'download'. Its options: none"),
        ("imagefolder", {"x": 1}, "no option 'x'. Its options: max_damaged_share"),
        ("imagefolder", {"augment": "much"}, "augment must be one of standard, wide_crop, none"),
    ],
)
def test_impossible_arguments_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_data(name, **{"resolution": 8, **arguments})
