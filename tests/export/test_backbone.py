"""A detector's backbone by itself, in formats that others read."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from mutualnet import ElasticSpace, Subnet, Supernet, calibrate
from mutualnet.export.backbone import write_backbone
from mutualnet.models import create_model
from mutualnet.tasks import make_task

SPACE = ElasticSpace(width_range=(0.5, 1.0), resolutions=(64, 32))
HALF = Subnet(width_mult=0.5, resolution=32)
SMALL = {
    "backbone": "resnet18",
    "backbone_kwargs": {"channels": [16, 16, 24, 32]},
    "strides": [8, 16],
    "anchor_sizes": [16, 32, 64],
    "fpn_channels": 16,
    "head_features": 16,
    "box_detections_per_img": 4,
    "rpn_post_nms_top_n_test": 8,
}


def _images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, *sides, generator=generator) for sides in ((32, 48), (40, 32))]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = Supernet(create_model("faster_rcnn", num_classes=2, **SMALL), SPACE).eval()
    batch = _images(), [{}, {}]
    calibrate(net, [batch], [HALF], task=make_task("detection"), data_id="n", num_samples=2)
    return net


@pytest.mark.parametrize(("kind", "name"), [("onnx", "b.onnx"), ("torch", "b.pt2")])
def test_it_gives_the_maps_of_pytorch_at_any_size(net, tmp_path, kind, name):
    difference = write_backbone(tmp_path / name, kind, net, HALF, _images(), {"recipe": "r"})
    assert difference <= 1e-4
    assert [path.name for path in tmp_path.iterdir()] == [name]
    images = torch.randn(3, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = net.extract(HALF).backbone(images)
    if kind == "torch":
        program = torch.export.load(tmp_path / name).module()
        found = [value.detach().numpy() for value in program(images)]
    else:
        about = {p.key: p.value for p in onnx.load(tmp_path / name).metadata_props}["mutualnet"]
        assert json.loads(about)["subnet"] == {"width_mult": 0.5, "resolution": 32}
        session = onnxruntime.InferenceSession(str(tmp_path / name))
        names = json.loads(about)["outputs"]
        assert names == ["map_0", "map_1", "map_pool"]
        found = session.run(names, {"images": images.numpy()})
    for mine, theirs in zip(found, expected.values(), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-4)


def test_openvino_gives_them_too(net, tmp_path):
    pytest.importorskip("openvino")
    out = tmp_path / "b.xml"
    assert write_backbone(out, "openvino", net, HALF, _images(), {}) <= 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.bin", "b.xml"]


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("tflite", "b.tflite", "format must be one of onnx, openvino, torch, got 'tflite'"),
        ("onnx", "b.pt2", r"a file of format onnx must end in \.onnx"),
    ],
)
def test_what_is_no_format_is_refused(net, tmp_path, kind, name, message):
    with pytest.raises(ValueError, match=message):
        write_backbone(tmp_path / name, kind, net, HALF, _images(), {})


class _Lists(nn.Module):
    """Gives a mapping of which one value is a list of two maps."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.one, self.other = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        x = self.inner(x)
        return {"both": [self.one(x), self.other(x)], "inner": self.one(x)}


class _Network(nn.Module):
    elastic_part = "body"

    def __init__(self):
        super().__init__()
        self.body = _Lists()

    def forward(self, x):
        return self.body(x)["inner"].mean((2, 3))


def test_maps_in_lists_are_numbered_beside_their_key(tmp_path):
    net = Supernet(_Network(), SPACE).eval()
    batch = torch.randn(2, 3, 64, 64), torch.zeros(2, dtype=torch.long)
    calibrate(net, [batch], [HALF], task=make_task("classification"), data_id="n", num_samples=2)
    out = tmp_path / "b.onnx"
    assert write_backbone(out, "onnx", net, HALF, _images(), {}) <= 1e-4
    outputs = [output.name for output in onnx.load(out).graph.output]
    assert outputs == ["map_both_0", "map_both_1", "map_inner"]
