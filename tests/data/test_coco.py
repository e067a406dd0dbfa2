"""COCO's files are read, checked entry by entry, and made into images, boxes and masks."""

from __future__ import annotations

import json
import logging
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mutualnet.data import load_data, photo_transform, scale_objects
from mutualnet.data.coco_json import read_annotations
from mutualnet.data.coco_masks import encode_masks, segmentation_problem, to_mask, to_runs
from tests.fixtures import run_lengths, write_coco


@pytest.fixture
def coco(tmp_path):
    write_coco(tmp_path)
    return tmp_path


def _load(path, **options):
    return load_data("coco", path, resolution=48, select_share=0.2, **options)


def _change(path, part, change):
    """Edit the content of a file of annotations."""
    file = path / "annotations" / f"instances_{part}2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


def test_splits_and_targets_are_those_of_the_files(coco):
    data = _load(coco)
    assert (len(data.train), len(data.select), len(data.test)) == (5, 1, 3)
    assert data.class_names == ("box", "ellipse")
    assert data.task == "instance_segmentation"
    # The first image is empty; the crowd of the last one is nothing to learn.
    assert data.test.labels.tolist() == [[0, 0], [1, 1], [1, 0]]
    image, target = data.test[1]
    assert image.shape == (3, 48, 56)
    assert target["labels"].tolist() == [1, 2]
    assert target["labels"].dtype == torch.int64
    assert target["masks"].shape == (2, 48, 56)
    for box, mask in zip(target["boxes"], target["masks"], strict=True):
        rows, columns = mask.nonzero().unbind(1)
        left, top, right, bottom = box.tolist()
        assert (left, top) == pytest.approx((int(columns.min()), int(rows.min())), abs=1)
        assert (right, bottom) == pytest.approx(
            (int(columns.max()) + 1, int(rows.max()) + 1), abs=1
        )
    # Objects lie where their colour is.
    for kind, mask in enumerate(target["masks"].bool()):
        assert image[kind][mask].mean() > image[kind][~mask].mean() + 1
    _, empty = data.test[0]
    assert empty["boxes"].shape == (0, 4)
    assert empty["masks"].shape == (0, 48, 48)


def test_a_batch_is_lists_and_the_truth_keeps_crowds_and_the_original_size(coco):
    data = load_data("coco", coco, resolution=24, select_share=0.2)
    images, targets = data.test.collate([data.test[i] for i in range(3)])
    assert [image.shape for image in images] == [(3, 24, 24), (3, 24, 28), (3, 24, 32)]
    truth = targets[2]["truth"].image
    assert (truth.height, truth.width) == (48, 64)
    assert [a.is_crowd for a in truth.annotations] == [False, True]
    assert len(targets[2]["boxes"]) == 1
    half, whole = targets[1]["boxes"], _load(coco).test[1][1]["boxes"]
    torch.testing.assert_close(half, whole / 2)


def test_boxes_alone_need_no_masks(coco):
    _change(coco, "train", lambda c: [a.pop("segmentation") for a in c["annotations"]])
    _change(coco, "val", lambda c: [a.pop("segmentation") for a in c["annotations"]])
    data = load_data("coco_boxes", coco, resolution=48, select_share=0.2)
    assert data.task == "detection"
    assert set(data.test[1][1]) == {"boxes", "labels", "truth"}
    with pytest.raises(ValueError, match=r"10 of 10 objects .* cannot be used: it is neither"):
        _load(coco)


@pytest.mark.parametrize("layout", ["", "2017", "images"])
def test_layouts(tmp_path, layout):
    write_coco(tmp_path, suffix="" if not layout else "2017")
    if layout == "images":
        (tmp_path / "images").mkdir()
        for part in ("train2017", "val2017"):
            (tmp_path / part).rename(tmp_path / "images" / part)
    assert len(_load(tmp_path).test) == 3


def test_train_images_are_mirrored_with_their_objects(coco):
    plain, flipped = _load(coco, augment="none").train, _load(coco).train
    # With objects: images 1.. have some.
    index = int(np.flatnonzero(plain.labels.sum(1))[0])
    image, target = plain[index]
    seen = set()
    for key in range(12):
        other, changed = flipped.fetch([index], np.array([key * 2**20], dtype=np.uint64))[0]
        is_flipped = not torch.equal(other, image)
        seen.add(is_flipped)
        if is_flipped:
            torch.testing.assert_close(other, image.flip(-1))
            assert torch.equal(changed["masks"], target["masks"].flip(-1))
            width = image.shape[-1]
            expected = target["boxes"].clone()
            expected[:, 0], expected[:, 2] = (
                width - target["boxes"][:, 2],
                width - target["boxes"][:, 0],
            )
            torch.testing.assert_close(changed["boxes"], expected)
    assert seen == {False, True}


def test_select_images_are_held_out_by_their_names(coco):
    first, again = _load(coco), _load(coco)
    other = _load(coco, seed=1)
    names = [[i.file_name for i in data.select.images] for data in (first, again, other)]
    assert names[0] == names[1]
    assert first.data_id == again.data_id
    trained = {i.file_name for i in first.train.images}
    assert not trained & set(names[0])
    assert [i.file_name for i in other.test.images] == [i.file_name for i in first.test.images]


@pytest.mark.parametrize("size", [(96, 96), (96, 128), (111, 77)])
@pytest.mark.parametrize("side", [96, 64, 31])
def test_boxes_and_masks_stay_on_the_same_content(size, side):
    height, width = size
    image = torch.zeros(3, height, width)
    image[0, 20:60, 30:70] = 1
    image[1, 44:76, 5:29] = 1
    mask = (image[:2] > 0).to(torch.uint8)
    target = {
        "boxes": torch.tensor([[30.0, 20, 70, 60], [5, 44, 29, 76]]),
        "labels": torch.tensor([1, 2]),
        "masks": mask,
    }
    images, targets = scale_objects([image], [target], side)
    small, found = images[0], targets[0]
    short = min(side, height, width)
    assert min(small.shape[1:]) == short
    assert max(small.shape[1:]) == round(max(size) * short / min(size))
    assert found["masks"].shape == (2, *small.shape[1:])
    assert found["masks"].dtype == torch.uint8
    for channel, (box, mask) in enumerate(zip(found["boxes"], found["masks"], strict=True)):
        # The centre of gravity and the area of what shines are the box's.
        weights = small[channel].clamp(min=0)
        rows = torch.arange(small.shape[1]) + 0.5
        columns = torch.arange(small.shape[2]) + 0.5
        total = weights.sum()
        left, top, right, bottom = box.tolist()
        assert float((weights.sum(0) * columns).sum() / total) == pytest.approx(
            (left + right) / 2, abs=0.2
        )
        assert float((weights.sum(1) * rows).sum() / total) == pytest.approx(
            (top + bottom) / 2, abs=0.2
        )
        assert float(total) == pytest.approx((right - left) * (bottom - top), rel=0.02)
        inside = mask.nonzero().float() + 0.5
        assert inside[:, 1].mean() == pytest.approx((left + right) / 2, abs=0.5)
        assert inside[:, 0].mean() == pytest.approx((top + bottom) / 2, abs=0.5)
    assert (images[0] is image) == (short == min(size))
    assert target["boxes"][0].tolist() == [30, 20, 70, 60]


def test_images_without_objects_are_scaled_too():
    target = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 40, 60, dtype=torch.uint8),
    }
    images, targets = scale_objects([torch.zeros(3, 40, 60)], [target], 20)
    assert images[0].shape == (3, 20, 30)
    assert targets[0]["masks"].shape == (0, 20, 30)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (600, 800)), ((480, 1200), (400, 1000)), ((100, 20), (1000, 200))],
)
def test_the_long_side_is_limited(size, expected):
    photo = Image.new("RGB", size[::-1])
    assert photo_transform("coco", 600)(photo).shape == (3, *expected)


def test_masks_come_from_polygons_and_from_both_kinds_of_run_lengths():
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[4:15, 7:21] = 1
    mask[16:, 25:] = 1
    plain = run_lengths(mask)
    packed = encode_masks(mask[None])[0]
    text = {"size": [20, 30], "counts": packed["counts"].decode()}
    for segmentation in (plain, packed, text):
        assert segmentation_problem(segmentation, 20, 30) is None
        assert np.array_equal(to_mask(segmentation, 20, 30), mask)
        assert to_runs(segmentation, 20, 30)["counts"] == packed["counts"]
    polygons = [[7, 4, 21, 4, 21, 15, 7, 15], [25, 16, 30, 16, 30, 20, 25, 20]]
    assert segmentation_problem(polygons, 20, 30) is None
    assert np.array_equal(to_mask(polygons, 20, 30), mask)
    assert encode_masks(np.zeros((0, 5, 5))) == []


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        (None, "neither a list"),
        ([], "neither a list"),
        ([[1, 2, 3, 4]], "at least 3 points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "at least 3 points"),
        ([[1, 2, 3, 4, 5, float("nan")]], "finite numbers"),
        ([[1, 2, 3, 4, 5, "6"]], "finite numbers"),
        ({"size": [4, 5], "counts": [20]}, r"are for \[4, 5\], but the image has \[4, 6\]"),
        ({"size": [4, 6], "counts": [20]}, "do not add up to 4 x 6"),
        ({"size": [4, 6], "counts": [30, -6]}, "do not add up"),
        ({"size": [4, 6], "counts": "zz"}, "do not add up"),
        ({"size": [4, 6], "counts": 24}, "no list of numbers"),
        ({"size": [4, 6], "counts": "\ud800"}, "no list of numbers"),
        ({"size": 100, "counts": [24]}, r"are for 100, but the image has \[4, 6\]"),
        ({"size": None, "counts": [24]}, "are for None"),
        ({"counts": [24]}, "are for None"),
        ([[1, 2, 3, 4, 5, 10**400]], "finite numbers"),
        ([[1, 2, 1e9, 4, 5, 6]], "far outside of its image"),
        ([[1, 2, 3, 4, 5, -41]], "far outside of its image"),
    ],
)
def test_bad_masks_are_told(segmentation, problem):
    assert re.search(problem, segmentation_problem(segmentation, 4, 6))


def _first(part):
    return lambda content, **values: content[part][0].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: _first("annotations")(c, category_id=9),
         "annotation 0 names the category 9, which the file has not. Its categories: 3, 7"),
        (lambda c: _first("annotations")(c, image_id=99), "annotation 0 names the image 99"),
        (lambda c: _first("annotations")(c, bbox=[1, 2, 3]), "annotation 0 must have a bbox of 4"),
        (lambda c: _first("annotations")(c, bbox=[1, 2, None, 3]), "must have a bbox of 4"),
        (lambda c: _first("annotations")(c, bbox=[1, 2, 10**400, 3]), "must have a bbox of 4"),
        (lambda c: _first("annotations")(c, iscrowd="0"), "must have 0 or 1 as iscrowd, got '0'"),
        (lambda c: _first("annotations")(c, iscrowd=2), "must have 0 or 1 as iscrowd, got 2"),
        (lambda c: _first("images")(c, width=10**400), "and < 2\\*\\*31 as width, got 1000"),
        (lambda c: _first("annotations")(c, image_id="a"), "a whole number as image_id, got 'a'"),
        (lambda c: _first("images")(c, height=0), "image 0 must have a whole number >= 1 and"),
        (lambda c: _first("images")(c, file_name="../a.png"), "inside of the split's folder"),
        (lambda c: _first("images")(c, file_name="/a.png"), "inside of the split's folder"),
        (lambda c: _first("images")(c, id=11), "image 1 has the id or the file_name of another"),
        (lambda c: _first("categories")(c, id=7), "category 1 has the id 7 of another one"),
        (lambda c: _first("categories")(c, name=None), "category 0 must have a name"),
        (lambda c: c.update(categories=[]), "at least one image and one category"),
        (lambda c: c.pop("annotations"), "got None for annotations"),
        (lambda c: c["annotations"].append(3), "annotation 10 must be keys and values, got 3"),
        (lambda c: _first("categories")(c, name="crate"),
         "must have the same categories, got others for 3 \\('crate' and 'box'\\)"),
    ],
)  # fmt: skip
def test_contradictions_are_told_with_file_and_entry(coco, change, message):
    file = _change(coco, "train", change)
    with pytest.raises(ValueError, match=message) as error:
        _load(coco)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ['{"images": [', "\xff\xfe", "[1, 2]", "3", ""])
def test_broken_files_are_told(coco, text):
    file = coco / "annotations" / "instances_val2017.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"must (be JSON, but is broken|hold images)") as error:
        _load(coco)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_other_folders_are_refused(coco, tmp_path):
    with pytest.raises(ValueError, match=r"path must be a folder with annotations/.*got None"):
        load_data("coco", None, resolution=48)
    (coco / "val2017").rename(coco / "v")
    with pytest.raises(ValueError, match=r"neither val2017/ nor images/val2017/"):
        _load(coco)
    (coco / "annotations" / "instances_val2014.json").write_text("{}")
    with pytest.raises(ValueError, match=r"got instances_val2014.json, instances_val2017.json for"):
        _load(coco)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"bbox": [5, 5, 0, 7]}, "an empty box"),
        ({"bbox": [500, 5, 4, 7]}, "a box off the image"),
        ({"bbox": [63.999999, 5, 4, 7]}, "an empty box"),
        ({"bbox": [1e-7, 5, -1e-8, 7]}, "an empty box"),
        ({"segmentation": [[1, 2, 3, 4]]}, "a polygon must have at least 3 points"),
    ],
)
def test_objects_that_cannot_be_used_are_left_out_and_counted(coco, caplog, values, kind):
    _change(coco, "train", lambda c: c["annotations"][2].update(values))
    with caplog.at_level(logging.WARNING):
        data = _load(coco)
    assert re.search(r"1 of 10 objects of .*/instances_train2017.json cannot be", caplog.text)
    assert kind in caplog.text
    assert "annotation 2" in caplog.text
    counts = data.train.labels.sum() + data.select.labels.sum()
    assert counts == 8  # 10 with one crowd
    _change(coco, "train", lambda c: c["annotations"][4].update(values))
    with pytest.raises(ValueError, match=r"2 of 10 objects .* cannot be used.*max_damaged_share"):
        _load(coco)
    assert _load(coco, max_damaged_share=0.3).train


def test_boxes_that_stand_out_are_cut(coco, caplog):
    _change(coco, "val", lambda c: c["annotations"][0].update(bbox=[-5, -7, 20, 200]))
    with caplog.at_level(logging.WARNING):
        data = _load(coco)
    assert "boxes cut at the edge of their image: 1" in caplog.text
    assert data.test[1][1]["boxes"][0].tolist() == [0, 0, 15, 48]


@pytest.mark.parametrize(
    ("split", "way_out"),
    [
        ("train", r"Annotate some in .*instances_train2017\.json"),
        ("select", r"another data\.select_share or seed"),
        ("test", r"Annotate some in .*instances_val2017\.json"),
    ],
)
def test_a_split_without_any_object_is_refused_at_once(coco, split, way_out):
    bare = {image.image_id for image in getattr(_load(coco), split).images}

    def leave_crowds_alone(content):
        for annotation in content["annotations"]:
            annotation["iscrowd"] = int(annotation["image_id"] in bare)

    _change(coco, "val" if split == "test" else "train", leave_crowds_alone)
    with pytest.raises(ValueError, match=rf"the {split} split must hold .* objects.*{way_out}"):
        _load(coco)


def test_missing_images_are_left_out_up_to_a_share(coco, caplog):
    (coco / "val2017" / "val001.png").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(_load(coco).test) == 2
    assert "lacks 1 of the 3 images" in caplog.text
    (coco / "val2017" / "val002.png").unlink()
    with pytest.raises(ValueError, match=r"lacks 2 of the 3 images .*At most 1 may be missing"):
        _load(coco)


def test_damaged_images_are_named_and_replaced_up_to_a_share(coco, caplog):
    (coco / "val2017" / "val001.png").write_bytes(b"no image")
    data = _load(coco)
    with caplog.at_level(logging.WARNING):
        image, target = data.test[1]
    assert "damaged image" in caplog.text
    assert "val001.png" in caplog.text
    assert target["truth"].image.file_name == "val002.png"
    assert image.shape == (3, 48, 64)
    Image.new("RGB", (9, 9)).save(coco / "val2017" / "val002.png")
    with pytest.raises(ValueError, match="at most 1 of the 3 test images may be damaged"):
        _load_all(_load(coco).test)


def _load_all(split):
    return [split[i] for i in range(len(split))]


def test_a_missing_package_is_named_in_one_line(coco, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval.core", None)
    with pytest.raises(
        ValueError, match=r"^detection needs the package faster-coco-eval: pip .*\]'$"
    ):
        _load(coco)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": "wide_crop"}, "augment must be one of standard, none"),
        ({"cutout": 8}, "coco has neither policy nor cutout"),
    ],
)
def test_what_objects_have_not_is_refused(coco, options, message):
    with pytest.raises(ValueError, match=message):
        _load(coco, **options)


def test_a_share_of_the_train_images_can_be_used(coco):
    assert len(_load(coco, train_share=0.6).train) == 3


def test_the_shared_data_are_read(shared_data):
    data = load_data("coco", shared_data / "nuclei", resolution=256)
    assert (len(data.train) + len(data.select), len(data.test)) == (240, 80)
    assert data.test.labels.sum() == 2510
    known = read_annotations(
        shared_data / "coco_mini" / "annotations" / "instances_val.json", needs_masks=True
    )
    assert (len(known.images), len(known.class_names)) == (110, 80)
    assert sum(a.is_crowd for i in known.images for a in i.annotations) == 9
