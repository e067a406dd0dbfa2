"""Pictures show boxes, masks and names, in colours that colour-blind people tell apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from mutualnet.tasks.drawing import COLOURS, FoundObject, draw_objects

GREY = (90, 90, 90)


def _object(box, label=1, score=0.9, side=100, has_mask=True):
    mask = np.zeros((side, side), dtype=bool)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = True
    return FoundObject(
        box=box, label=label, name=f"c{label}", score=score, mask=mask if has_mask else None
    )


def test_a_small_picture_is_enlarged_and_kept_where_nothing_is():
    picture = Image.new("RGB", (100, 100), GREY)
    drawn = draw_objects(picture, [])
    assert drawn.size == (600, 600)
    assert drawn.getcolors() == [(360000, GREY)]
    assert draw_objects(Image.new("RGB", (700, 900)), []).size == (700, 900)
    assert picture.getcolors() == [(10000, GREY)]


def test_masks_boxes_and_names_are_where_the_object_is():
    plain = np.asarray(draw_objects(Image.new("RGB", (100, 100), GREY), []))
    box = (20, 30, 70, 80)
    drawn = np.asarray(draw_objects(Image.new("RGB", (100, 100), GREY), [_object(box)]))
    changed = (drawn != plain).any(2)
    rows, columns = np.nonzero(changed[6 * 30 :])
    assert (columns.min(), columns.max()) == pytest.approx((120, 420), abs=4)
    assert rows.max() + 180 == pytest.approx(480, abs=4)
    # Inside, the colour lies over the picture; above, there is the name.
    expected = 0.45 * np.array(COLOURS[0]) + 0.55 * np.array(GREY)
    assert drawn[330, 270] == pytest.approx(expected, abs=3)
    assert changed[6 * 30 - 10, 125]
    without = draw_objects(Image.new("RGB", (100, 100), GREY), [_object(box, has_mask=False)])
    assert np.asarray(without)[330, 270].tolist() == list(GREY)


def test_classes_have_colours_and_objects_have_where_there_is_one_class():
    boxes = [(5, 20, 35, 50), (60, 20, 90, 50)]
    for labels, is_same in (((1, 1), False), ((1, 2), False), ((2, 9), True)):
        objects = [_object(box, label) for box, label in zip(boxes, labels, strict=True)]
        drawn = np.asarray(draw_objects(Image.new("RGB", (100, 100), GREY), objects))
        assert np.array_equal(drawn[210, 120], drawn[210, 450]) == is_same


def test_names_neither_overlap_nor_hide_small_objects():
    def tags(objects):
        drawn = np.asarray(draw_objects(Image.new("RGB", (100, 100), GREY), objects))
        bare = [
            FoundObject(box=o.box, label=o.label, name="", score=0.0, mask=o.mask) for o in objects
        ]
        return (drawn == np.array(COLOURS[0])).all(2).sum() if bare else 0

    alone = tags([_object((20, 30, 70, 80), has_mask=False)])
    tiny = tags([_object((20, 30, 22, 32), has_mask=False)])
    assert alone > 5 * tiny


def test_a_small_object_lies_over_a_large_one():
    objects = [_object((0, 0, 99, 99), 1, 0.9), _object((40, 40, 60, 60), 2, 0.1)]
    drawn = np.asarray(draw_objects(Image.new("RGB", (100, 100), GREY), objects))
    below = 0.45 * np.array(COLOURS[0]) + 0.55 * np.array(GREY)
    expected = 0.45 * np.array(COLOURS[1]) + 0.55 * below
    assert drawn[300, 300] == pytest.approx(expected, abs=4)


_DEFICIENCIES = {
    "protan": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "deutan": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "tritan": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
}
"""What is seen of linear RGB, by Machado et al. 2009 at full severity."""


@pytest.mark.parametrize("kind", _DEFICIENCIES)
def test_colours_differ_for_colour_blind_people(kind):
    linear = (np.array(COLOURS) / 255) ** 2.2
    seen = (linear @ np.array(_DEFICIENCIES[kind]).T).clip(0, 1) ** (1 / 2.2) * 255
    for one, other in combinations(range(len(COLOURS)), 2):
        assert np.abs(seen[one] - seen[other]).max() > 25, (one, other)


def test_a_long_picture_is_not_enlarged_beyond_measure():
    assert draw_objects(Image.new("RGB", (1, 5000)), []).size == (1, 5000)
    assert draw_objects(Image.new("RGB", (1000, 10)), []).size == (3000, 30)
