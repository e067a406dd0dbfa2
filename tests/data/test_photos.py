"""What a photo goes through on its way to a network."""

from __future__ import annotations

import pytest
from PIL import Image

from mutualnet.data import load_data


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (640, 480)])
def test_eval_transform_takes_any_photo(mode, size):
    splits = load_data("digits", resolution=12)
    got = splits.eval_transform(Image.new(mode, size))
    assert got.shape == (1, 12, 12)
    assert got.isfinite().all()
