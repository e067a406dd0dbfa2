"""What is compared on videos, and the section that is written about it."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.videos import ALONE, EPOCHS, alone, mutualnet
from benchmarks.videos_page import section
from mutualnet.space import Subnet


def test_networks_alone_see_the_same_frames_for_as_many_epochs():
    elastic = mutualnet("videos")
    grid = elastic.space.grid()
    for subnet in ALONE:
        recipe = alone("videos", subnet)
        assert recipe.space.grid() == (subnet,)
        assert subnet in grid
        assert recipe.method.name == "independent"
        assert recipe.clip_options == elastic.clip_options
        assert recipe.clip_options["num_frames"] == 8
        assert recipe.optimizer == elastic.optimizer
        assert recipe.optimizer.epochs == EPOCHS
        assert replace(recipe.data, resolution=None) == elastic.data
        assert recipe.load_resolution == elastic.load_resolution == 64  # the very pixels


def _result(rows):
    return {
        "epochs": 2,
        "batch_size": 8,
        "seed": 0,
        "steps": 9,
        "images": {"train": 390, "select": 42, "test": 96},
        "rows": rows,
    }


def _row(width, side, frames, test):
    subnet = Subnet(width_mult=width, resolution=side, num_frames=frames)
    return {
        "subnet": subnet.to_dict(),
        "macs": 1_000_000 * frames,
        "select": test + 1,
        "test": test,
        "test_error": 4.5,
    }


def test_the_section_sets_each_network_beside_its_sub_network():
    elastic = _result(
        [_row(w, s, f, 40 + 10 * w + f) for w in (1, 0.5) for s in (8, 4) for f in (2, 1)]
    )
    text = "\n".join(section([elastic, _result([_row(0.5, 4, 1, 33.0)])]))
    assert "on 390 clips of six actions, for 2\nepochs in batches of 8 (9 steps)" in text
    assert "| 0.5x4x1f | 1.0 | 46.0 ± 4.5 | 33.0 ± 4.5 | +13.0 | 47.0 | 34.0 |" in text
    assert "| width | 8 px, 2 frames | 8 px, 1 frames | 4 px, 2 frames | 4 px, 1 frames |" in text
    assert "| 1 | 52.0 (2.0) | 51.0 (1.0) | 52.0 (2.0) | 51.0 (1.0) |" in text
    assert "| 0.5 | 47.0 (2.0) | 46.0 (1.0) | 47.0 (2.0) | 46.0 (1.0) |" in text
    assert "Of 1 networks trained alone MutualNet's sub-network is ahead of 1." in text
    assert "by the number of frames: 49.5 with 2, 48.5 with 1." in text
