"""What nobody should type or write ends in one line, soon."""

from __future__ import annotations

import numpy as np
import pytest

from mutualnet.methods import SandwichRule
from mutualnet.space import ElasticSpace, Subnet


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width_range": (0.25, "a")}, r"width_range must hold numbers alone, got \(0.25, 'a'\)"),
        ({"width_range": (None, 1)}, "width_range must hold numbers alone"),
        ({"widths": "0.5"}, "widths must hold numbers alone"),
        ({"depths": ("a",)}, "depths must hold numbers alone"),
        ({"width_step": None}, "width_step must be a number, got None"),
        ({"model_width_mult": "2"}, "model_width_mult must be a number, got '2'"),
    ],
)
def test_a_space_is_made_of_numbers(values, message):
    with pytest.raises(ValueError, match=message):
        ElasticSpace(**values)


def test_a_space_takes_arrays():
    space = ElasticSpace(widths=np.array([0.25, 1]), resolutions=np.array([32, 28]))
    assert (space.widths, space.resolutions) == ((1.0, 0.25), (32, 28))


@pytest.mark.parametrize("widths", [{"a": None}, {"a": "x"}, ["a", "bc"], 5, [("a", 1, 2)]])
def test_group_widths_pair_names_with_numbers(widths):
    with pytest.raises(ValueError, match="group_widths must pair names with numbers, got"):
        Subnet(group_widths=widths)


def test_a_step_draws_a_whole_number_of_sub_networks():
    with pytest.raises(ValueError, match=r"num_random must be a whole number, got 1\.5"):
        SandwichRule(num_random=1.5)


def test_a_space_may_be_as_large_as_its_bounds():
    space = ElasticSpace(width_step=0.75 / 1000, resolutions=(4096, 4, 3, 2))
    assert len(space.grid()) == 4004
