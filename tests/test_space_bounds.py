"""What nobody should type or write ends in one line, soon."""

from __future__ import annotations

import pytest

from mutualnet.space import ElasticSpace


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resolutions": (100_000,)}, "resolutions must be at most 4096 pixels, got 100000"),
        ({"width_step": 1e-12}, r"the grid must have at most 4096 sub-networks, got 7.5e\+11 wid"),
        (
            {"width_step": 1e-307, "width_range": (1, 64)},
            "the grid .* got inf widths at 4 resolutions",
        ),
        ({"width_step": float("nan")}, "width_step must be a finite number, got nan"),
        ({"width_range": (0.25, float("inf"))}, "width_range must be a finite number, got inf"),
        ({"widths": (1.0, float("nan"))}, "widths must be a finite number, got nan"),
        ({"model_width_mult": float("nan")}, "model_width_mult must be a finite number, got nan"),
        ({"model_width_mult": 1e9}, r"width multipliers must be at most 64, got 1e\+09"),
        ({"width_range": (0.25, 1e9)}, r"width multipliers must be at most 64, got 1e\+09"),
    ],
)
def test_a_space_has_bounds(values, message):
    with pytest.raises(ValueError, match=message):
        ElasticSpace(**values)


def test_a_space_may_be_as_large_as_its_bounds():
    space = ElasticSpace(width_step=0.75 / 1000, resolutions=(4096, 4, 3, 2))
    assert len(space.grid()) == 4004
