"""A line of text on a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mutualnet.tasks.caption import with_caption


@pytest.mark.parametrize("size", [(320, 240), (90, 60)])
def test_a_caption_is_white_on_black_and_fits(size):
    plain = Image.new("RGB", size, (0, 120, 0))
    drawn = with_caption(plain, "PlayingViolin 97.3 %")
    pixels = np.asarray(drawn).astype(int)
    changed = (pixels != np.asarray(plain)).any(2)
    assert pixels[changed].min() < 20
    assert pixels[changed].max() > 200
    assert not changed[:, -1].any()
    assert not changed[size[1] // 2 :].any()
    assert np.asarray(plain).max() == 120
