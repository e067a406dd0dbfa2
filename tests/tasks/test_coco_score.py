"""Average precision is COCO's: by hand, and by a slow implementation of the rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import (
    paste_masks_in_image,
    project_masks_on_boxes,
)

from mutualnet.data import AnnotatedImage, Annotation, Truth
from mutualnet.tasks.box_masks import original_masks
from mutualnet.tasks.coco_score import CocoAveragePrecision, truth_of
from tests.fixtures import run_lengths

SIDE = 40


def _image(*objects, number=0, side=SIDE):
    """Objects of (class, left, top, width, height, is_crowd)."""
    return AnnotatedImage(
        number,
        f"{number}.jpg",
        side,
        side,
        tuple(
            Annotation(
                category=label,
                box=(x, y, w, h),
                segmentation=run_lengths(_mask((x, y, w, h), side)),
                is_crowd=crowd,
                area=w * h,
            )
            for label, x, y, w, h, crowd in objects
        ),
    )


def _mask(box, side=SIDE):
    x, y, w, h = (round(value) for value in box)
    mask = np.zeros((side, side), dtype=np.uint8)
    mask[max(0, y) : y + h, max(0, x) : x + w] = 1
    return mask


def _found(*detections, masks=False, side=SIDE):
    """Detections of (class, left, top, width, height, score)."""
    result = {
        "boxes": torch.tensor([[x, y, x + w, y + h] for _, x, y, w, h, _ in detections]).reshape(
            -1, 4
        ),
        "labels": torch.tensor([d[0] for d in detections], dtype=torch.int64),
        "scores": torch.tensor([d[5] for d in detections]).float(),
    }
    if masks:
        full = [_mask(d[1:5], side) for d in detections] or np.zeros((0, side, side))
        result["masks"] = torch.from_numpy(np.stack(full) if len(full) else full)[:, None].float()
    return result


def _score(pairs, kind="bbox"):
    score = CocoAveragePrecision(kind)
    for image, found in pairs:
        inputs = torch.zeros(3, image.height, image.width)
        score.update([found], ([inputs], [{"truth": Truth(image)}]))
    return score.compute()


def test_perfect_detections_score_100_and_none_0():
    image = _image((1, 2, 3, 10, 12, False), (2, 20, 20, 9, 8, False))
    right = _found((1, 2, 3, 10, 12, 0.9), (2, 20, 20, 9, 8, 0.8))
    assert _score([(image, right)]).value == 100
    assert _score([(image, _found())]).value == 0
    assert _score([(image, _found((2, 2, 3, 10, 12, 0.9), (1, 20, 20, 9, 8, 0.8)))]).value == 0


def test_a_box_counts_at_the_thresholds_below_its_overlap():
    image = _image((1, 0, 0, 10, 10, False))
    # 7 of 10 columns: IoU 0.7, right at 0.50 to 0.70, which are 5 of 10 thresholds.
    assert _score([(image, _found((1, 0, 0, 7.001, 10, 0.9)))]).value == pytest.approx(50)


def test_a_false_alarm_before_the_right_one_halves_the_precision():
    image = _image((1, 0, 0, 10, 10, False))
    found = _found((1, 20, 20, 10, 10, 0.9), (1, 0, 0, 10, 10, 0.8))
    assert _score([(image, found)]).value == pytest.approx(50)
    # After it, it costs nothing.
    found = _found((1, 20, 20, 10, 10, 0.7), (1, 0, 0, 10, 10, 0.8))
    assert _score([(image, found)]).value == pytest.approx(100)


def test_what_is_found_in_a_crowd_is_neither_right_nor_wrong():
    crowd = _image((1, 0, 0, 10, 10, False), (1, 20, 20, 20, 20, True))
    found = _found((1, 21, 21, 5, 5, 0.95), (1, 30, 30, 5, 5, 0.9), (1, 0, 0, 10, 10, 0.8))
    assert _score([(crowd, found)]).value == pytest.approx(100)
    counted = _image((1, 0, 0, 10, 10, False), (1, 20, 20, 20, 20, False))
    assert _score([(counted, found)]).value < 40


def test_boxes_are_scored_at_the_original_size():
    image = _image((1, 4, 8, 20, 16, False))
    score = CocoAveragePrecision("bbox")
    half = {"truth": Truth(image)}
    score.update([_found((1, 2, 4, 10, 8, 0.9))], ([torch.zeros(3, 20, 20)], [half]))
    assert score.compute().value == 100


@pytest.mark.parametrize("seen", [20, 40, 80])
def test_masks_are_scored_at_the_original_size(seen):
    image = _image((1, 4, 8, 20, 16, False))
    box = torch.tensor([[4.0, 8, 24, 24]]) * seen / SIDE
    found = {
        "boxes": box,
        "labels": torch.tensor([1]),
        "scores": torch.tensor([0.9]),
    }
    small = torch.from_numpy(_mask((seen / 10, seen / 5, seen / 2, seen * 0.4), seen))[None]
    found["box_masks"] = project_masks_on_boxes(small.float(), box, torch.tensor([0]), 28)[:, None]
    for name in ("box_masks", "masks"):
        if name == "masks":
            found["masks"] = paste_masks_in_image(found.pop("box_masks"), box, (seen, seen))
        (mask,) = next(original_masks(found, (seen, seen), image))
        assert mask.shape == (SIDE, SIDE)
        truth = _mask((4, 8, 20, 16)).astype(bool)
        # torchvision's own masks are rounded to pixels of what the detector saw.
        least = 0.85 if name == "box_masks" else 0.6
        assert (mask & truth).sum() / (mask | truth).sum() > least
        score = CocoAveragePrecision("segm")
        target = {"truth": Truth(image)}
        score.update([found], ([torch.zeros(3, seen, seen)], [target]))
        assert score.compute().value >= (70 if name == "box_masks" else 30)


def test_a_detector_that_may_find_more_than_100_is_scored_on_all():
    grid = [(1, x, y, 3, 3, False) for x in range(0, 40, 4) for y in range(0, 40, 4)]
    more = [*grid, *((1, x, y, 3, 3, False) for x in range(40, 80, 4) for y in range(0, 40, 4))]
    image = _image(*more, side=80)
    found = _found(*((*o[:5], 0.9) for o in more), side=80)
    assert len(more) == 200
    assert _score([(image, found)]).value == 100


def test_targets_without_a_truth_are_their_own():
    target = {
        "boxes": torch.tensor([[2.0, 3, 12, 15]]),
        "labels": torch.tensor([1]),
        "masks": torch.from_numpy(_mask((2, 3, 10, 12)))[None],
    }
    truth = truth_of(target, (SIDE, SIDE))
    assert truth.annotations[0].box == (2, 3, 10, 12)
    for kind in ("bbox", "segm"):
        score = CocoAveragePrecision(kind)
        found = _found((1, 2, 3, 10, 12, 0.9), masks=True)
        score.update([found], ([torch.zeros(3, SIDE, SIDE)], [target]))
        assert score.compute().value == 100


def test_the_background_and_unknown_classes_are_left_out():
    image = _image((1, 0, 0, 10, 10, False))
    score = CocoAveragePrecision("bbox", num_classes=1)
    found = _found((0, 0, 0, 10, 10, 0.99), (2, 0, 0, 10, 10, 0.98), (1, 0, 0, 10, 10, 0.5))
    score.update([found], ([torch.zeros(3, SIDE, SIDE)], [{"truth": Truth(image)}]))
    assert score.compute().value == 100


def test_scores_need_images_objects_and_masks():
    with pytest.raises(ValueError, match="at least one sample"):
        CocoAveragePrecision("bbox").compute()
    with pytest.raises(ValueError, match="needs images with objects"):
        _score([(_image(), _found())])
    with pytest.raises(ValueError, match="must have masks to be scored by them, got boxes"):
        _score([(_image((1, 0, 0, 9, 9, False)), _found((1, 0, 0, 9, 9, 0.9)))], "segm")


def _random_case(seed, num_images=9):
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(num_images):
        objects, found = [], []
        for _ in range(rng.integers(0, 7)):
            w, h = (int(v) for v in rng.integers(3, 16, 2))
            x, y = int(rng.integers(0, SIDE - w)), int(rng.integers(0, SIDE - h))
            label = int(rng.integers(1, 4))
            objects.append((label, x, y, w, h, bool(rng.random() < 0.15)))
            for _ in range(rng.integers(0, 3)):
                dx, dy = (int(v) for v in rng.integers(-3, 4, 2))
                place = (max(0, min(SIDE - w, x + dx)), max(0, min(SIDE - h, y + dy)))
                other = label if rng.random() < 0.85 else int(rng.integers(1, 5))
                found.append((other, *place, w, h, round(float(rng.random()), 2)))
        pairs.append((_image(*objects, number=number), _found(*found, masks=True)))
    return pairs


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_a_slow_implementation_of_the_rules(kind, seed):
    pairs = _random_case(seed)
    score = _score(pairs, kind)
    assert score.value == pytest.approx(_slow_average_precision(pairs, kind), abs=1e-9)
    assert 5 < score.value < 95
    assert score.num_samples == len(pairs)


def test_the_standard_error_is_the_spread_of_scores_of_other_samples():
    scores = [_score(_random_case(seed, 40)) for seed in range(24)]
    spread = float(np.std([score.value for score in scores]))
    errors = [score.standard_error for score in scores]
    assert float(np.mean(errors)) == pytest.approx(spread, rel=0.35)
    assert _score(_random_case(0, 40)).standard_error == errors[0]


def _slow_average_precision(pairs, kind):
    """By the rules of Lin et al., one detection after the other, in percent."""
    labels = sorted({a.category for i, _ in pairs for a in i.annotations if not a.is_crowd})
    precisions = []
    for label in labels:
        for threshold in np.linspace(0.5, 0.95, 10):
            outcomes, num_objects = [], 0
            for image, found in pairs:
                truth = [a for a in image.annotations if a.category == label]
                num_objects += sum(not a.is_crowd for a in truth)
                outcomes += _match(truth, found, label, threshold, kind)
            outcomes.sort(key=lambda pair: -pair[0])
            right = np.cumsum([is_right for _, is_right in outcomes])
            precision = right / np.arange(1, len(outcomes) + 1)
            recall = right / num_objects
            for wanted in np.linspace(0, 1, 101):
                reached = precision[recall >= wanted] if len(outcomes) else []
                precisions.append(max(reached, default=0.0))
    return 100 * float(np.mean(precisions))


def _match(truth, found, label, threshold, kind):
    """Score and whether it is right of every detection of a class that counts."""
    mine = [i for i, other in enumerate(found["labels"].tolist()) if other == label]
    mine.sort(key=lambda i: -float(found["scores"][i]))
    free, outcomes = set(range(len(truth))), []
    for i in mine[:100]:
        overlaps = [(_overlap(truth[t], found, i, kind), t) for t in free if not truth[t].is_crowd]
        best = max((pair for pair in overlaps if pair[0] >= threshold), default=None)
        if best is not None:
            free.remove(best[1])
            outcomes.append((float(found["scores"][i]), True))
        elif all(_overlap(a, found, i, kind) < threshold for a in truth if a.is_crowd):
            outcomes.append((float(found["scores"][i]), False))
    return outcomes


def _overlap(annotation, found, i, kind):
    if kind == "segm":
        one = _mask(annotation.box).astype(bool)
        other = found["masks"][i, 0].numpy().astype(bool)
        common, mine = (one & other).sum(), other.sum()
        return common / (mine if annotation.is_crowd else (one | other).sum())
    left, top, right, bottom = found["boxes"][i].tolist()
    x, y, w, h = annotation.box
    common = max(0, min(right, x + w) - max(left, x)) * max(0, min(bottom, y + h) - max(top, y))
    mine = (right - left) * (bottom - top)
    return common / (mine if annotation.is_crowd else mine + w * h - common)
