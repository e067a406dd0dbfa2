"""Boxes of detectors that are computed in bf16 lie where they lie in fp32."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import clip_boxes_to_image

from mutualnet.models import create_model
from mutualnet.precision import autocast_to
from mutualnet.tasks.box_precision import exact_boxes
from mutualnet.tasks.detection import Detection

CPU = torch.device("cpu")
SIZE = (320, 800)
"""Beyond 512 bf16 has every fourth pixel alone."""
SMALL = {"backbone": "resnet18", "backbone_kwargs": {"channels": [8, 8, 8, 8]}, "fpn_channels": 8}


def _detector(name):
    """A detector whose boxes are its anchors: it moves none."""
    torch.manual_seed(0)
    sizes = {"anchor_sizes": [25, 50, 99, 199, 399]}
    head = {"score_thresh": 0.0} if name == "retinanet" else {"head_features": 8}
    detector = create_model(name, num_classes=2, **SMALL, **sizes, **head)
    for path, layer in detector.named_modules():
        if path.endswith(("bbox_pred", "bbox_reg")) or "regression_head.bbox" in path:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
    return detector.eval()


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_boxes_in_bf16_are_those_of_fp32_to_the_pixel(name):
    detector, anchors = _detector(name), []
    generator = detector.anchor_generator if name == "retinanet" else detector.rpn.anchor_generator
    generator.register_forward_hook(lambda _, __, found: anchors.append(found[0]))
    images, targets = [torch.randn(3, *SIZE)], [{}]
    Detection().run(detector, (images, targets))
    with torch.inference_mode(), autocast_to(torch.bfloat16, CPU):
        found = Detection().run(detector, (images, targets))[0]
    plain, reduced = anchors
    assert torch.equal(plain, reduced)
    known = {tuple(box) for box in clip_boxes_to_image(plain, SIZE).round(decimals=2).tolist()}
    boxes = found["boxes"].round(decimals=2)
    assert boxes[:, 2].max() > 512
    assert {tuple(box) for box in boxes.tolist()} <= known
    assert found["scores"].dtype == torch.float32


def test_in_training_boxes_are_learned_as_in_fp32():
    detector = _detector("faster_rcnn").train()
    detector.roi_heads.box_predictor.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    coder, seen, learned = detector.rpn.box_coder, [], []
    encode = coder.encode

    def spy(boxes, anchors):
        learned.append(torch.cat(encode(boxes, anchors)))
        return encode(boxes, anchors)

    coder.encode = spy
    targets = [{"boxes": torch.tensor([[601.0, 101, 703, 203]]), "labels": torch.tensor([1])}]
    images = [torch.randn(3, *SIZE)]
    for dtype in (None, torch.bfloat16):
        with autocast_to(dtype, CPU):
            Detection().run(detector, (images, targets))
    assert seen[1].dtype == torch.bfloat16  # the layers themselves are left alone
    assert torch.equal(learned[0], learned[1])


def test_outside_of_the_block_a_detector_is_as_it_was():
    detector = _detector("faster_rcnn")
    bf16 = autocast_to(torch.bfloat16, CPU)
    with pytest.raises(ZeroDivisionError), bf16, exact_boxes(detector, CPU):
        assert any(module._forward_hooks for module in detector.modules())
        raise ZeroDivisionError
    with exact_boxes(detector, CPU):  # nothing to do without autocast
        modules = list(detector.modules())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


def test_a_network_without_such_parts_is_left_alone():
    layer = nn.Linear(2, 2)
    with autocast_to(torch.bfloat16, CPU), exact_boxes(layer, CPU):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
