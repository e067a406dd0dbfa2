"""One configuration by itself, in formats that others read."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import openvino
import pytest
import torch

from mutualnet.export import standalone, write_standalone
from tests.small_artifact import NAMES, SUBNETS, small_images, small_info, small_supernet

SUBNET = SUBNETS[2]


@pytest.fixture(scope="module")
def net():
    return small_supernet()


@pytest.fixture(scope="module")
def scaled():
    return torch.nn.functional.interpolate(
        small_images(), (24, 24), mode="bilinear", align_corners=True
    )


@pytest.fixture(scope="module")
def expected(net, scaled):
    with torch.inference_mode():
        return net.extract(SUBNET).eval()(scaled).numpy()


def test_onnx(net, scaled, expected, tmp_path):
    out = tmp_path / "m.onnx"
    assert write_standalone(out, "onnx", net, SUBNET, small_info(), small_images()) <= 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    session = onnxruntime.InferenceSession(out)
    np.testing.assert_allclose(
        session.run(None, {"images": scaled.numpy()})[0], expected, atol=1e-4
    )
    about = json.loads(session.get_modelmeta().custom_metadata_map["mutualnet"])
    assert about["class_names"] == list(NAMES)
    assert about["resolution"] == 24
    assert about["preprocessing"][-1]["step"] == "resize_to_configuration"


def test_openvino(net, scaled, expected, tmp_path):
    out = tmp_path / "m.xml"
    assert write_standalone(out, "openvino", net, SUBNET, small_info(), small_images()) <= 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.bin", "m.xml"]
    model = openvino.Core().read_model(out)
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(scaled.numpy())[0], expected, atol=1e-4)
    assert json.loads(model.get_rt_info("mutualnet").astype(str))["class_names"] == list(NAMES)


def test_torch_export(net, scaled, expected, tmp_path):
    out = tmp_path / "m.pt2"
    assert write_standalone(out, "torch", net, SUBNET, small_info(), small_images()) <= 1e-4
    extra = {"mutualnet.json": ""}
    program = torch.export.load(out, extra_files=extra)
    with torch.inference_mode():
        for images in (scaled, scaled[:1]):  # any number of images
            found = program.module()(images).numpy()
            np.testing.assert_allclose(found, expected[: len(images)], atol=1e-5)
    assert json.loads(extra["mutualnet.json"])["task"] == "classification"


@pytest.mark.parametrize("kind", standalone.SUFFIXES)
def test_one_image_to_verify_with_is_enough(net, scaled, expected, tmp_path, kind):
    out = tmp_path / f"m{standalone.SUFFIXES[kind]}"
    assert write_standalone(out, kind, net, SUBNET, small_info(), small_images()[:1]) <= 1e-4
    if kind == "torch":
        found = torch.export.load(out).module()(scaled)
        torch.testing.assert_close(found.detach(), torch.from_numpy(expected), rtol=0, atol=1e-5)


def test_what_gives_something_else_is_not_written(net, tmp_path, monkeypatch):
    inner = standalone.outputs_of
    monkeypatch.setattr(standalone, "outputs_of", lambda *a: inner(*a) + 1)
    with pytest.raises(ValueError, match="must give what PyTorch gives"):
        write_standalone(tmp_path / "m.onnx", "onnx", net, SUBNET, small_info(), small_images())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("m.onnx", "tflite", "format must be one of onnx, openvino, torch, got 'tflite'"),
        ("m.bin", "onnx", r"a file of format onnx must end in \.onnx"),
    ],
)
def test_formats_and_endings_are_checked(net, tmp_path, name, kind, message):
    with pytest.raises(ValueError, match=message):
        write_standalone(tmp_path / name, kind, net, SUBNET, small_info(), small_images())
