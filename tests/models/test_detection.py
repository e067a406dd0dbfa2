"""torchvision's detectors are built on any backbone of timm's, and leave images as they are."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mutualnet.models import create_model
from mutualnet.models.detection import PyramidBackbone

SMALL = {
    "backbone": "resnet18",
    "fpn_channels": 16,
    "rpn_post_nms_top_n_train": 20,
    "rpn_post_nms_top_n_test": 20,
}
TWO_STAGE = {**SMALL, "head_features": 16, "box_score_thresh": 0.0, "box_detections_per_img": 7}
KINDS = {
    "mask_rcnn": {**TWO_STAGE, "mask_channels": 8, "num_mask_convolutions": 1},
    "faster_rcnn": TWO_STAGE,
    "retinanet": {
        "backbone": "resnet18",
        "fpn_channels": 16,
        "detections_per_img": 7,
        "score_thresh": 0.0,
    },
}


def _target(*boxes: tuple[int, int, int, int], side: int = 96) -> dict[str, torch.Tensor]:
    masks = torch.zeros(len(boxes), side, side, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "masks": masks,
    }


@pytest.mark.parametrize("name", KINDS)
def test_detectors_learn_from_targets_and_detect(name):
    model = create_model(name, num_classes=3, **KINDS[name])
    images = [torch.randn(3, 96, 96), torch.randn(3, 70, 96)]
    losses = model.train()(images, [_target((8, 8, 40, 50)), _target(side=96)])
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    with torch.inference_mode():
        found = model.eval()(images)
    for detections, image in zip(found, images, strict=True):
        count = len(detections["scores"])
        assert 0 < count <= 7
        assert set(detections["labels"].tolist()) <= {0, 1, 2, 3}
        limits = torch.tensor([image.shape[2], image.shape[1]] * 2)
        assert (detections["boxes"] >= 0).all()
        assert (detections["boxes"] <= limits).all()
        if name == "mask_rcnn":
            assert detections["box_masks"].shape == (count, 1, 28, 28)


@pytest.mark.parametrize("backbone", ["dla46_c", "tresnet_m", "resnet18"])
def test_maps_have_the_strides_that_are_asked_for(backbone):
    strides = (4, 16) if backbone == "resnet18" else (4, 8, 16)
    network = PyramidBackbone(backbone, strides=strides, out_channels=4).eval()
    with torch.inference_mode():
        maps = list(network(torch.zeros(1, 3, 64, 128)).values())
    assert [(64 // m.shape[2], 128 // m.shape[3]) for m in maps[:-1]] == [(s, s) for s in strides]
    with pytest.raises(ValueError, match=r"strides must rise, .* first, got \[16, 4\]"):
        PyramidBackbone(backbone, strides=(16, 4))


def test_the_detector_neither_scales_nor_normalises():
    model = create_model("faster_rcnn", num_classes=3, **KINDS["faster_rcnn"])
    images = [torch.randn(3, 50, 70), torch.randn(3, 64, 33)]
    for training in (True, False):
        padded, _ = model.train(training).transform(images)
        assert padded.tensors.shape == (2, 3, 64, 96)
        assert torch.equal(padded.tensors[0, :, :50, :70], images[0])
        assert not padded.tensors[0, :, 50:].any()


def test_masks_are_pasted_like_torchvisions_where_that_is_asked_for():
    torch.manual_seed(1)
    settings = {**KINDS["mask_rcnn"], "paste_masks": True}
    model = create_model("mask_rcnn", num_classes=3, **settings).eval()
    with torch.inference_mode():
        found = model([torch.randn(3, 50, 70)])[0]
    assert found["masks"].shape == (len(found["boxes"]), 1, 50, 70)
    assert "box_masks" not in found


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("vgg16", (256, 512, 512, 512)),
        ("vgg16_bn", (256, 512, 512, 512)),
        ("resnet50", (256, 512, 1024, 2048)),
        ("mobilenetv2_100", (24, 32, 96, 320)),
        ("regnety_004", (48, 104, 208, 440)),
    ],
)
def test_any_network_of_timm_with_feature_maps_is_a_backbone(name, channels):
    model = create_model("faster_rcnn", num_classes=2, **{**TWO_STAGE, "backbone": name})
    inner = [block[0].in_channels for block in model.backbone.fpn.inner_blocks]
    assert tuple(inner) == channels
    with torch.inference_mode():
        maps = model.eval().backbone(torch.zeros(1, 3, 64, 64))
    assert [value.shape[-1] for value in maps.values()] == [16, 8, 4, 2, 1]


@pytest.mark.parametrize(("side", "billions"), [(600, 109.84), (480, 70.5)])
def test_the_13_convolutions_of_vgg_cost_what_the_paper_says(side, billions):
    model = create_model("mask_rcnn", num_classes=80, backbone="vgg16_bn").to("meta").eval()
    with FlopCounterMode(display=False) as counter:
        model.backbone.body(torch.zeros(1, 3, side, side, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(billions, abs=0.05)


def test_only_the_backbone_is_said_to_be_elastic():
    model = create_model("retinanet", num_classes=3, **KINDS["retinanet"])
    assert (model.elastic_part, model.counted_part) == ("backbone", "backbone.body")
    assert model.get_submodule(model.counted_part) is model.backbone.body


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "hf-hub:somebody/net"}, "backbone must be a network of timm's"),
        ({"backbone": "mixer_b16_224"}, "strides 4, 8, 16, 32, got mixer_b16_224 with 16, 16, 16"),
        ({"anchor_sizes": [8, 16]}, "anchor_sizes must be 5 sizes"),
        ({"fpn_channels": 0}, "fpn_channels must be >= 1"),
        ({"backbone_kwargs": {"checkpoint_path": "x"}}, "must not name weights"),
        ({"head_size": 3}, "FasterRCNN has no setting 'head_size'. torchvision's: box_batch_size"),
        ({"min_size": 3}, "FasterRCNN has no setting 'min_size'"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        create_model("faster_rcnn", num_classes=2, **settings)
    assert "\n" not in str(error.value)


def test_a_network_of_timm_without_feature_maps_is_refused(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("features_only not implemented")

    monkeypatch.setattr("timm.create_model", fail)
    with pytest.raises(ValueError, match=r"resnet18 gives no feature maps \(features_only not"):
        create_model("faster_rcnn", num_classes=2, backbone="resnet18")
