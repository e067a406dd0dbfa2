"""Detectors train, are calibrated, scored and counted by the same code as all networks."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator

from mutualnet import (
    METHODS,
    ElasticSpace,
    Subnet,
    Supernet,
    calibrate,
    peer_step,
    sandwich_step,
)
from mutualnet.cost import CostModel
from mutualnet.data import load_data
from mutualnet.evaluation import evaluate
from mutualnet.losses import distillation_loss
from mutualnet.models import create_model
from mutualnet.tasks import Classification, make_task
from mutualnet.tasks.detection import Detection, InstanceSegmentation
from mutualnet.tasks.detector_cost import detector_macs
from mutualnet.teaching import dml

SPACE = ElasticSpace(width_range=(0.25, 1.0), resolutions=(96, 64))
SMALL = {
    "backbone": "resnet18",
    "backbone_kwargs": {"channels": [8, 16, 24, 32]},
    "fpn_channels": 16,
    "head_features": 16,
    "anchor_sizes": [8, 16, 32, 64, 128],
    "rpn_post_nms_top_n_train": 40,
    "rpn_post_nms_top_n_test": 40,
    "box_batch_size_per_image": 32,
}
MASKS = {"mask_channels": 8, "num_mask_convolutions": 1}
RETINA = {name: SMALL[name] for name in ("backbone", "backbone_kwargs", "fpn_channels")}


def _mask_rcnn(**changes):
    torch.manual_seed(0)
    return create_model("mask_rcnn", num_classes=2, **SMALL, **MASKS, **changes)


def _batch(count=2, side=96, seed=0):
    """Dark images with bright boxes; every second one is wider."""
    rng = np.random.default_rng(seed)
    images, targets = [], []
    for number in range(count):
        width = side + 16 * (number % 2)
        image = torch.from_numpy(rng.normal(0, 0.1, (3, side, width)).astype(np.float32))
        masks = torch.zeros(2, side, width, dtype=torch.uint8)
        boxes = []
        for kind, mask in enumerate(masks):
            w, h = (int(v) for v in rng.integers(16, 40, 2))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, side - h))
            mask[y : y + h, x : x + w] = 1
            image[kind, y : y + h, x : x + w] += 2
            boxes.append([x, y, x + w, y + h])
        images.append(image)
        targets.append(
            {
                "boxes": torch.tensor(boxes, dtype=torch.float32),
                "labels": torch.tensor([1, 2]),
                "masks": masks,
            }
        )
    return images, targets


@pytest.mark.parametrize(("width", "side", "billions"), [
    (1.0, 600, 109.84), (0.8, 480, 44.87), (0.25, 360, 2.51), (0.25, 240, 1.12),
    (0.9, 480, 56.6), (0.55, 360, 11.9), (0.4, 360, 6.2),
])  # fmt: skip
def test_vgg_costs_what_the_paper_says_at_every_width_and_side(vgg, width, side, billions):
    subnet = Subnet(width_mult=width, resolution=side)
    digits = 0.005 if billions == round(billions, 2) != round(billions, 1) else 0.05
    assert vgg.macs(subnet) / 1e9 == pytest.approx(billions, abs=digits)


@pytest.fixture(scope="module")
def vgg():
    model = create_model("mask_rcnn", num_classes=80, backbone="vgg16_bn")
    space = ElasticSpace(width_range=(0.25, 1.0), resolutions=(600, 480, 360, 240))
    return CostModel(Supernet(model, space))


@pytest.mark.parametrize(
    "backbone", ["vgg16_bn", "resnet50", "mobilenetv2_100", "efficientnet_b0", "resnet18"]
)
def test_at_half_width_a_backbone_costs_less_than_a_third(backbone):
    model = create_model("faster_rcnn", num_classes=3, backbone=backbone, fpn_channels=64)
    net = Supernet(model, ElasticSpace(width_range=(0.5, 1.0), resolutions=(224,)))
    costs = CostModel(net)
    half, full = (costs.macs(Subnet(width_mult=w, resolution=224)) for w in (0.5, 1.0))
    assert half <= 0.3 * full
    narrow = net.extract(net.space.smallest, uncalibrated=True)
    for name, parameter in narrow.named_parameters():
        if not name.startswith("backbone.body") and "inner_blocks" not in name:
            assert parameter.shape == model.get_parameter(name).shape, name


def test_the_pyramid_may_be_elastic_too():
    shared = Supernet(_mask_rcnn(), SPACE)
    elastic = Supernet(_mask_rcnn(elastic="pyramid"), SPACE)
    half = Subnet(width_mult=0.5, resolution=96)
    sizes = [
        net.extract(half, uncalibrated=True).backbone.fpn.inner_blocks[0][0].out_channels
        for net in (shared, elastic)
    ]
    assert sizes == [16, 8]
    assert "shared   all outside of backbone" in shared.report()
    with pytest.raises(ValueError, match="elastic must be backbone, pyramid or all, got 'half'"):
        _mask_rcnn(elastic="half")


def test_a_whole_detector_may_be_elastic():
    torch.manual_seed(0)
    model = create_model("retinanet", num_classes=2, **RETINA, elastic="all")
    net = Supernet(model, ElasticSpace(width_range=(0.5, 1.0), resolutions=(64,)))
    half = net.extract(net.space.smallest, uncalibrated=True)
    assert half.head.classification_head.conv[1][0].out_channels == 8
    assert half.head.classification_head.cls_logits.out_channels == 27  # 9 anchors of 3 classes


def test_an_image_is_shrunk_with_what_is_on_it():
    images, targets = _batch()
    small = InstanceSegmentation().scale((images, targets), Subnet(width_mult=1.0, resolution=48))
    assert [image.shape for image in small[0]] == [(3, 48, 48), (3, 48, 56)]
    torch.testing.assert_close(small[1][0]["boxes"], targets[0]["boxes"] / 2)
    assert small[1][1]["masks"].shape == (2, 48, 56)


def test_a_batch_is_split_into_lists():
    batch = _batch(5)
    parts = Detection().split(batch, 2)
    assert [Detection().num_samples(part) for part in parts] == [3, 2]
    assert [id(image) for part in parts for image in part[0]] == [id(image) for image in batch[0]]


@pytest.mark.parametrize("distill", [False, True])
def test_a_step_trains_every_sub_network(distill):
    net, task = Supernet(_mask_rcnn(), SPACE).train(), InstanceSegmentation()
    subnets = METHODS["mutualnet"].draw(SPACE, np.random.default_rng(0))
    losses = sandwich_step(net, _batch(), subnets, task=task, distill=distill)
    targets = ["labels", *(["largest" if distill else "labels"] * 3)]
    assert [loss.target for loss in losses] == targets
    assert all(loss.loss.isfinite() for loss in losses)
    for name, parameter in net.model.named_parameters():
        assert parameter.grad is not None, name


def test_gradients_of_a_step_are_the_sum_of_those_of_separate_detectors():
    # A RetinaNet draws no random samples, so its losses can be repeated.
    torch.manual_seed(0)
    model, task, batch = create_model("retinanet", num_classes=2, **RETINA), Detection(), _batch()
    net = Supernet(model, SPACE).train()
    subnets = [Subnet(width_mult=w, resolution=r) for w, r in ((1.0, 96), (0.5, 64), (0.25, 96))]
    plain = copy.deepcopy(model).train()
    task.supervised_loss(task.run(plain, batch), batch).backward()
    sandwich_step(net, batch, subnets[:1], task=task, distill=False)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(net.model.get_parameter(name).grad, parameter.grad)
    net.zero_grad()
    sandwich_step(net, batch, subnets, task=task, distill=False)
    together = {n: p.grad.clone() for n, p in net.model.named_parameters()}
    net.zero_grad()
    for subnet in subnets:
        part = task.scale(batch, subnet)
        network = net.model if net.is_full(subnet) else net.subnet(subnet).train()
        task.supervised_loss(task.run(network, part), part).backward()
    for name, total in together.items():
        torch.testing.assert_close(net.model.get_parameter(name).grad, total, rtol=1e-3, atol=1e-5)


def test_distillation_takes_the_place_of_the_loss_of_classes_alone():
    net, task, batch = Supernet(_mask_rcnn(), SPACE).train(), InstanceSegmentation(), _batch()
    outputs = task.run(net.model, batch)
    itself = task.distill_loss(outputs, task.detach(outputs))
    others = sum(v for name, v in outputs.losses.items() if name != "loss_classifier")
    # From itself a network has nothing to learn.
    torch.testing.assert_close(itself, others)
    small = task.scale(batch, Subnet(width_mult=1.0, resolution=64))
    student = task.run(net.model, small)
    ask = student.box_head.on_proposals_of
    assert len(ask(task.detach(outputs).box_head)) == len(outputs.box_head.logits)
    divergence = task.distill_loss(student, task.detach(outputs)).detach()
    assert float(divergence) > 0
    assert task.detach(outputs).box_head.ask is None
    retina = create_model("retinanet", num_classes=2, **RETINA).train()
    with pytest.raises(ValueError, match="needs detectors with the box head of torchvision's"):
        task.distill_loss(task.run(retina, batch), task.run(retina, batch))


def test_peers_learn_their_losses_once_and_the_divergence_of_classes():
    networks = [create_model("faster_rcnn", num_classes=2, **SMALL).train() for _ in range(2)]
    batch, task = _batch(), Detection()
    torch.manual_seed(0)
    learned = peer_step(networks, batch, dml(2), task=task).losses
    torch.manual_seed(0)  # which proposals the losses are of is drawn
    first, second = (task.run(network, batch) for network in networks)
    on_labels, _, from_peer, _ = learned.values()
    torch.testing.assert_close(on_labels, task.supervised_loss(first, batch).detach())
    logits = first.box_head.on_proposals_of(second.box_head)
    divergence = distillation_loss(logits, second.box_head.logits).detach()
    torch.testing.assert_close(from_peer, divergence)
    assert float(from_peer) < 0.1 * float(on_labels)  # nothing but the divergence


def test_calibration_runs_the_backbone_alone_and_gives_its_statistics(monkeypatch):
    net, task, batches = Supernet(_mask_rcnn(), SPACE), InstanceSegmentation(), [_batch(4)]

    def fail(*_, **__):
        raise AssertionError("the region proposals are not needed")

    monkeypatch.setattr(type(net.model.rpn), "forward", fail)
    calibrate(net, batches, [SPACE.largest], task=task, data_id="x", num_samples=4)
    detector = net.extract(SPACE.largest).eval()
    padded, _ = net.model.transform(batches[0][0])
    stem = net.model.backbone.body.conv1(padded.tensors)
    torch.testing.assert_close(
        detector.backbone.body.bn1.running_mean, stem.mean((0, 2, 3)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("task", [Detection(), InstanceSegmentation()])
def test_sub_networks_are_scored(task):
    net = Supernet(_mask_rcnn(), SPACE)
    calibrate(net, [_batch(4)], SPACE.grid()[-2:], task=task, data_id="x", num_samples=4)
    scores = evaluate(net, [_batch(2), _batch(2, seed=1)], SPACE.grid()[-2:], task=task)
    assert {score.num_samples for score in scores.values()} == {4}
    assert all(0 <= score.value <= 100 for score in scores.values())


def test_a_detector_of_a_users_own_passes_through_every_step():
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 16, 3, 4, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3, 2, 1)
    )
    body.out_channels = 8
    detector = FasterRCNN(
        body,
        num_classes=3,
        rpn_anchor_generator=AnchorGenerator(((16, 32),), ((0.5, 1.0),)),
        box_roi_pool=None,
        min_size=96,
        max_size=112,
    )
    detector.roi_heads.box_roi_pool.featmap_names = ["0"]
    net, task = Supernet(detector, SPACE, elastic_part="backbone").train(), Detection()
    losses = sandwich_step(net, _batch(), SPACE.grid()[::5], task=task, distill=False)
    assert all(loss.loss.isfinite() for loss in losses)
    calibrate(net, [_batch()], [SPACE.smallest], task=task, data_id="x", num_samples=2)
    assert evaluate(net, [_batch()], [SPACE.smallest], task=task)[SPACE.smallest].num_samples == 2


def test_a_detector_learns_a_few_photos_of_coco_by_heart(shared_data):
    """Two photos with a few large objects each, by the widest and the narrowest sub-network."""
    data = load_data("coco", shared_data / "coco_mini", resolution=96, augment="none")
    known = [
        place
        for place, image in enumerate(data.train.images)
        if 1 <= len(image.annotations) <= 2
        and all(a.area > 0.1 * image.height * image.width for a in image.annotations)
    ]
    batch = data.train.collate([data.train[place] for place in known[:2]])
    torch.manual_seed(0)
    settings = {**SMALL, "backbone_kwargs": {"channels": [16, 24, 32, 48]}, "fpn_channels": 24}
    model = create_model("mask_rcnn", num_classes=80, **settings, **MASKS)
    net, task = Supernet(model, SPACE).train(), InstanceSegmentation()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    ends = [SPACE.largest, Subnet(width_mult=0.25, resolution=96)]
    for _ in range(60):
        optimizer.zero_grad()
        sandwich_step(net, batch, ends, task=task, distill=False)
        optimizer.step()
    calibrate(net, [batch], ends, task=task, data_id="x", num_samples=2)
    scores = evaluate(net, [batch], ends, task=task)
    assert min(score.value for score in scores.values()) > 30, scores


def test_a_whole_detector_is_counted_part_by_part():
    net = Supernet(_mask_rcnn(), SPACE)
    half = Subnet(width_mult=0.5, resolution=96)
    found = detector_macs(net, half, (96, 96))
    assert found["backbone.body"] == CostModel(net).macs(half)
    assert found["total"] == sum(count for part, count in found.items() if part != "total")
    heads = net.model.roi_heads
    fc = 16 * 49 * 16 + 16 * 16 + 16 * (3 + 12)
    assert found["box head"] == 40 * fc
    per_mask = 14 * 14 * 16 * 8 * 9 + 14 * 14 * 8 * 8 * 4 + 28 * 28 * 8 * 3
    assert found["mask head"] == heads.detections_per_img * per_mask
    # By default the long side is 5/3 of the short one: 96 x 160.
    assert detector_macs(net, half)["backbone.body"] == found["backbone.body"] * 160 // 96
    retina = Supernet(create_model("retinanet", num_classes=2, **RETINA), SPACE)
    assert set(detector_macs(retina, half)) == {"backbone.body", "backbone.fpn", "head", "total"}


@pytest.mark.parametrize(("title", "backbone"), [("VGG-16", "vgg16_bn"), ("ResNet-50", "resnet50")])
def test_the_costs_in_the_docs_are_what_is_counted(title, backbone):
    page = (Path(__file__).parents[2] / "docs" / "objects.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith(f"| {title}, ")]
    assert len(rows) == 2
    space = ElasticSpace(width_range=(0.25, 1.0), resolutions=(600, 240))
    net = Supernet(create_model("mask_rcnn", num_classes=80, backbone=backbone), space)
    for row in rows:
        place, *told = (cell.strip() for cell in row.strip("|").split("|"))
        width, side = re.search(r", ([\d.]+) and (\d+) x", place).groups()
        found = detector_macs(net, Subnet(width_mult=float(width), resolution=int(side)))
        assert told == [f"{count / 1e9:.1f}" for count in found.values()]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labels": torch.tensor([0, 1])}, ValueError, "labels from 1, 0 is the background"),
        ({"labels": torch.tensor([1.0, 2.0])}, TypeError, "labels of int64"),
        ({"labels": torch.tensor([1])}, ValueError, r"boxes \(M, 4\) and labels \(M\)"),
        ({"boxes": torch.tensor([[1.0, 2, 1, 5], [1, 2, 3, 4]])}, ValueError, "with area"),
        ({"boxes": torch.tensor([[95.99999, 2, 96, 5], [1, 2, 3, 4]])}, ValueError, "with area"),
        ({"boxes": torch.full((2, 4), torch.nan)}, ValueError, "with area"),
        ({"masks": torch.zeros(2, 5, 5)}, ValueError, r"must have masks \(2, 96, 96\)"),
        ({"masks": torch.zeros(2, 96, 96).bool()}, TypeError, r"uint8, got torch.bool. .*byte\(\)"),
        ({"masks": torch.full((2, 96, 96), 255).byte()}, ValueError, "masks of zeros and ones"),
    ],
)
def test_bad_targets_are_told(changes, error, message):
    images, targets = _batch(1)
    batch = (images, [{**targets[0], **changes}])
    with pytest.raises(error, match=message):
        Detection().check_batch(batch, reads_values=True)
    with pytest.raises(TypeError, match="must return its losses by name in train mode"):
        Detection().supervised_loss(torch.zeros(3), batch)


def test_bad_targets_are_told_before_the_network_fails_with_them():
    images, targets = _batch(1)
    net = Supernet(_mask_rcnn(), SPACE).train()
    for broken, message in (
        (
            {**targets[0], "boxes": torch.zeros(2, 4)},
            "target 0 of the batch must have boxes .* area",
        ),
        ({"labels": targets[0]["labels"]}, "must have boxes and labels, got labels"),
        ({**targets[0], "labels": torch.tensor([1, 3])}, "must lie in 1..2, got 3. Number the"),
        ({n: targets[0][n] for n in ("boxes", "labels")}, "must have masks for a detector with a"),
    ):
        with pytest.raises(ValueError, match=message):
            sandwich_step(net, (images, [broken]), [SPACE.largest], task=InstanceSegmentation())
    with pytest.raises(ValueError, match="a target for each of its 2 images, got 1"):
        sandwich_step(net, (images * 2, targets), [SPACE.largest], task=InstanceSegmentation())


def test_labels_beyond_the_classes_of_a_one_stage_detector_are_told():
    net = create_model("retinanet", num_classes=2, **RETINA).train()
    images, targets = _batch(1)
    with pytest.raises(ValueError, match=r"labels of objects must lie in 1\.\.2, got 7"):
        Detection().run(net, (images, [{**targets[0], "labels": torch.tensor([1, 7])}]))


def test_networks_that_are_no_detectors_are_told():
    with pytest.raises(ValueError, match="must return boxes, labels and scores of each image"):
        Detection().check_outputs(torch.zeros(2, 5), 5)
    found = [{"boxes": 1, "labels": 1, "scores": 1}]
    Detection().check_outputs(found, 5)
    with pytest.raises(ValueError, match="must return masks to be scored by them"):
        InstanceSegmentation().check_outputs(found, 5)
    assert isinstance(make_task("instance_segmentation"), InstanceSegmentation)


def test_what_was_found_is_told_in_words():
    found = {"labels": torch.tensor([1, 2, 1, 1]), "scores": torch.tensor([0.9, 0.8, 0.7, 0.2])}
    nothing = {"labels": torch.tensor([1]), "scores": torch.tensor([0.1])}
    lines = Detection().describe([found, nothing], ["cat", "dog"])
    assert lines == ["2 cat, 1 dog", "nothing"]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_photo_over_the_limit_is_not_read(tmp_path, monkeypatch):
    Image.new("1", (11, 10)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="at most 100 pixels, got 11 x 10"):
        Detection().read(tmp_path / "large.png", lambda image: image, {})


@pytest.mark.parametrize("task", [Classification(), Detection()], ids=["text", "boxes"])
def test_a_picture_that_cannot_be_written_leaves_the_one_before(tmp_path, task, monkeypatch):
    def fill_the_disk(image, file, *args):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    photo, out = tmp_path / "photo.png", tmp_path / "seen.png"
    for path in (photo, out):
        Image.new("RGB", (20, 16)).save(path)
    before = out.read_bytes()
    found = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "scores": torch.zeros(0),
        "image_size": (16, 20),
    }
    outputs = [found] if isinstance(task, Detection) else torch.tensor([[1.0, 0.0]])
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Image.Image, "save", fill_the_disk)
        task.draw(photo, out, outputs, ["cell", "other"])
    assert out.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", "seen.png"}
    task.draw(photo, out, outputs, ["cell", "other"])
    assert out.read_bytes() != before
