"""Detectors from the command line: trained, tabulated, and what they find drawn and written."""

from __future__ import annotations

import copy
import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mutualnet import commands
from mutualnet.cli import main
from mutualnet.config import RecipeChanges
from mutualnet.data.coco_masks import to_mask
from mutualnet.models import create_model
from mutualnet.prediction import Classifier
from mutualnet.pretrained import copy_weights
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import load_run, read_record
from mutualnet.tasks.detection import Detection, InstanceSegmentation
from mutualnet.training.channel_order import hold_gradients
from mutualnet.training.setup import load_splits
from tests.fixtures import write_coco

KWARGS = {
    "backbone": "resnet18",
    "backbone_kwargs": {"channels": [8, 16, 24, 32]},
    "fpn_channels": 16,
    "head_features": 16,
    "mask_channels": 8,
    "num_mask_convolutions": 1,
    "anchor_sizes": [8, 16, 32, 64, 128],
    "rpn_post_nms_top_n_train": 16,
    "rpn_post_nms_top_n_test": 16,
    "box_batch_size_per_image": 16,
    "box_detections_per_img": 6,
    "box_score_thresh": 0.0,
}
SETTINGS = [
    f"model.kwargs={json.dumps(KWARGS)}",
    "data.batch_size=2",
    "data.num_workers=0",
    "data.select_share=0.3",
    "compute.precision=fp32",
    "space.width_step=1.0",
    "space.resolutions=[48, 32]",
    "table.num_calibration_samples=4",
    "table.latency_runs=1",
    "watch.every_epochs=0",
]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    write_coco(folder)
    return folder


@pytest.fixture(scope="module")
def run(coco, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    changes = RecipeChanges(data=str(coco), settings=SETTINGS)
    commands.start_training("nuclei_mask_rcnn", changes, out=out, limit_steps=2)
    commands.make_table(out)
    return out


def test_a_table_is_by_average_precision_and_costs_are_the_backbones(run):
    table = read_record(run).table
    assert table.score_name.startswith("mask AP (%)")
    largest = max(table.rows, key=lambda row: row.macs)
    net = load_run(run).supernet
    assert largest.subnet == net.space.largest
    assert largest.macs < table.meta["whole_macs"]["largest"]["total"]
    body = table.meta["whole_macs"]["largest"]["backbone.body"]
    assert body == pytest.approx(largest.macs * 64 * 96 / 48**2, rel=0.3)


def test_a_detector_is_no_fixed_teacher(run, coco, tmp_path):
    changes = RecipeChanges(data=str(coco), settings=[*SETTINGS, f"teacher.name={run}"])
    with pytest.raises(ValueError, match=r"teacher\.name must be null for the task instance_segm"):
        commands.start_training("nuclei_mask_rcnn", changes, out=tmp_path / "taught")


def test_channels_of_a_detector_are_sorted_by_the_gradients_of_its_losses(coco, tmp_path):
    changes = RecipeChanges(data=str(coco), settings=SETTINGS)
    recipe = changes.apply(load_recipe("nuclei_mask_rcnn"))
    model = create_model(recipe.model.name, num_classes=2, in_channels=3, **KWARGS)
    before = copy.deepcopy(model.state_dict())
    data, task = load_splits(recipe), InstanceSegmentation()
    hold_gradients(model.eval(), recipe, data, task, torch.device("cpu"))
    stem = next(model.backbone.body.parameters())
    assert 0 < stem.grad.sum() < torch.inf
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_picture_with_boxes_and_masks_is_written(run, coco, tmp_path, capsys):
    photo, out = coco / "val2017" / "val001.png", tmp_path / "out.png"
    assert main(["predict", str(run), str(photo), "--budget", "5G", "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "within 5000M multiply-adds: sub-network" in shown
    assert f"written: {out}" in shown.replace("\n", "")
    with Image.open(out) as picture, Image.open(photo) as before:
        assert picture.size == (before.width * 12, before.height * 12)


def test_objects_are_found_on_an_image_in_memory(run, coco):
    loaded, photo = load_run(run), coco / "val2017" / "val001.png"
    classifier = Classifier(loaded, loaded.table.top)
    with Image.open(photo) as image:
        (found,) = classifier.outputs(image)
    told = [thing["probability"] for thing in classifier.predict(photo).objects]
    kept = found["scores"][found["labels"] > 0].tolist()
    assert [round(score, 6) for score in kept] == told


def test_objects_are_written_for_programs(run, coco, tmp_path, capsys):
    photos = [str(coco / "val2017"), str(tmp_path / "absent.png")]
    assert main(["predict", str(run), *photos, "--json"]) == 2
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert len(found) == 4
    assert "error" in found[3]
    sizes = [(48, 48), (48, 56), (48, 64)]
    for prediction, (height, width) in zip(found, sizes, strict=False):
        assert 0 < len(prediction["objects"]) <= 6
        for thing in prediction["objects"]:
            assert thing["class"] in ("box", "ellipse")
            assert 0 <= thing["left"] <= thing["right"] <= width
            assert 0 <= thing["top"] <= thing["bottom"] <= height
            assert to_mask(thing["mask"], height, width).shape == (height, width)
    assert main(["predict", str(run), *photos, "--csv"]) == 2
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == sum(len(p.get("objects", [1])) for p in found)
    assert float(rows[0]["right"]) == found[0]["objects"][0]["right"]
    assert rows[-1]["error"]


def test_an_artifact_of_a_whole_detector_is_refused_in_one_line(run, capsys, tmp_path):
    assert main(["export", str(run), "-o", str(tmp_path / "a.mutualnet")]) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert "only the backbone can be exported: --format onnx" in shown[0]


def test_the_surest_objects_are_drawn_where_none_is_sure(tmp_path):
    photo, out = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGB", (60, 60)).save(photo)
    found = {
        "boxes": torch.tensor([[4.0, 8, 40, 44]]),
        "labels": torch.tensor([1]),
        "image_size": (60, 60),
    }
    for score, is_drawn in ((0.4, True), (0.2, False)):
        outputs = [{**found, "scores": torch.tensor([score])}]
        Detection().draw(photo, out, outputs, ["cell"])
        with Image.open(out) as picture:
            assert (len(picture.getcolors(10000)) > 1) == is_drawn


def test_a_run_is_reported(run, tmp_path):
    assert main(["report", str(run), "-o", str(tmp_path / "r.html")]) == 0
    assert "mask AP" in (tmp_path / "r.html").read_text()


def test_pictures_of_a_folder_go_into_a_folder(run, coco, tmp_path):
    assert main(["predict", str(run), str(coco / "val2017"), "-o", str(tmp_path / "o")]) == 0
    assert len(list((tmp_path / "o").glob("*.png"))) == 3


def test_what_is_drawn_is_what_was_found(run, coco):
    from mutualnet.tasks.detection import found_objects

    net = load_run(run)
    found = {
        "boxes": torch.tensor([[4.0, 8, 20, 24], [0, 0, 5, 5]]),
        "labels": torch.tensor([2, 0]),
        "scores": torch.tensor([0.9, 0.8]),
        "box_masks": torch.ones(2, 1, 28, 28),
        "image_size": (32, 32),
    }
    (thing,) = found_objects(found, (48, 48), net.info["class_names"])
    assert thing.box == pytest.approx((6, 12, 30, 36))
    assert (thing.name, thing.label, thing.score) == ("ellipse", 2, pytest.approx(0.9))
    columns = np.flatnonzero(thing.mask.any(0))
    assert (columns.min(), columns.max()) == pytest.approx((6, 30), abs=2)
    assert found_objects(found, (48, 48), net.info["class_names"], least=0.95) == []


@pytest.mark.parametrize("method", ["us_net", "independent", "multi_scale"])
def test_other_methods_are_the_same_switch(method, coco, tmp_path):
    out = tmp_path / "run"
    changes = RecipeChanges(data=str(coco), settings=SETTINGS, method=method)
    commands.start_training("nuclei_mask_rcnn", changes, out=out, limit_steps=1)
    recipe = read_record(out).recipe
    assert (recipe.method.name, recipe.method.value.distills) == (method, False)


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "mobilenetv2_050"])
def test_the_backbone_starts_from_a_classification_network(name, tmp_path, caplog):
    torch.manual_seed(0)
    trained = create_model(f"timm:{name}", num_classes=5)
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    detector = create_model("faster_rcnn", num_classes=2, backbone=name, fpn_channels=8)
    fpn = detector.backbone.fpn.inner_blocks[0][0].weight.clone()
    found = copy_weights(detector, str(tmp_path / "weights.pt"))
    body = detector.backbone.body.state_dict()
    assert len(found.copied) == len(body)
    known = {key.replace("_", "."): value for key, value in trained.state_dict().items()}
    for key, value in body.items():
        assert torch.equal(value, known[key.replace("_", ".")]), key
    assert torch.equal(detector.backbone.fpn.inner_blocks[0][0].weight, fpn)
    # A detector's own weights go everywhere.
    torch.save(detector.state_dict(), tmp_path / "detector.pt")
    other = create_model("faster_rcnn", num_classes=2, backbone=name, fpn_channels=8)
    assert len(copy_weights(other, str(tmp_path / "detector.pt")).copied) == len(other.state_dict())
    with pytest.raises(ValueError, match="must fit the network by name and shape"):
        wrong = create_model("faster_rcnn", num_classes=2, backbone="resnet34", fpn_channels=8)
        torch.save(create_model("timm:vgg11", num_classes=5).state_dict(), tmp_path / "w.pt")
        copy_weights(wrong, str(tmp_path / "w.pt"))


def test_bad_annotations_end_with_one_line(tmp_path, capsys):
    write_coco(tmp_path)
    file = tmp_path / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["category_id"] = 90
    file.write_text(json.dumps(content))
    words = ["train", "nuclei_mask_rcnn", "--data", str(tmp_path), "--out", str(tmp_path / "r")]
    assert main(words) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert f"{file}: annotation 0 names the category 90" in shown[0]
