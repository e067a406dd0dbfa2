"""Preprocessing as steps that are written down, read back, and followed by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from mutualnet.data import load_data, photo_transform
from mutualnet.data.load import LOADERS
from mutualnet.data.preprocessing import Preprocessing
from mutualnet.run_directory import load_run, preprocessing_of
from mutualnet.training import setup
from mutualnet.training.train import train
from tests.fixtures import WRITERS
from tests.small_runs import digits


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 255, (50, 130, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", LOADERS)
def test_what_is_read_back_does_the_same(name, image):
    chain = photo_transform(name, 24)
    again = Preprocessing.from_values(json.loads(json.dumps(chain.to_values())))
    assert again == chain
    assert torch.equal(again(image, 16), chain(image, 16))


@pytest.mark.parametrize("name", sorted({*WRITERS} - {"imagenet", "food101", "indoor67"}))
def test_it_is_what_test_images_of_the_data_set_go_through(name, tmp_path):
    WRITERS[name](tmp_path)
    assert load_data(name, tmp_path, resolution=24).eval_transform == photo_transform(name, 24)


def test_photos_can_be_reproduced_from_the_numbers_alone(image):
    steps = {step["step"]: step for step in photo_transform("imagenet", 24).to_values()}
    width, height = image.size
    left = (width - steps["crop_ends"]["max_aspect"] * height) // 2
    cut = image.crop((left, 0, left + steps["crop_ends"]["max_aspect"] * height, height))
    side = steps["resize_short_side"]["size"]
    small = cut.resize((2 * side, side), Image.Resampling.BILINEAR)
    size = steps["center_crop"]["size"]
    left, top = round((2 * side - size) / 2), round((side - size) / 2)
    square = small.crop((left, top, left + size, top + size))
    values = np.asarray(square, dtype=np.float32) / steps["scale"]["divisor"]
    values = (values - steps["normalize"]["mean"]) / steps["normalize"]["std"]
    tensor = torch.tensor(values, dtype=torch.float32).permute(2, 0, 1)
    last = steps["resize_to_configuration"]
    assert (last["interpolation"], last["align_corners"], last["antialias"]) == (
        "bilinear",
        True,
        False,
    )
    expected = F.interpolate(tensor[None], (16, 16), mode="bilinear", align_corners=True)[0]
    torch.testing.assert_close(photo_transform("imagenet", 24)(image, 16), expected)


@pytest.mark.parametrize(("name", "native"), [("cifar10", 32), ("digits", 8)])
def test_images_of_arrays_can_be_reproduced_too(name, native, image):
    steps = {step["step"]: step for step in photo_transform(name, 24).to_values()}
    assert steps["resize_central_square"]["size"] == native
    grey = image.convert(steps["decode"]["mode"])
    pixels = np.asarray(ImageOps.fit(grey, (native, native), Image.Resampling.BILINEAR))
    tensor = torch.tensor(pixels, dtype=torch.float32).view(native, native, -1).permute(2, 0, 1)
    resize, numbers = steps["resize"], steps["scale_and_normalize"]
    tensor = F.interpolate(
        tensor[None],
        (24, 24),
        mode=resize["interpolation"],
        align_corners=resize["align_corners"],
        antialias=resize["antialias"],
    )[0]
    mean, std = (torch.tensor(numbers[key]).view(-1, 1, 1) for key in ("mean", "std"))
    expected = (tensor / numbers["divisor"] - mean) / std
    torch.testing.assert_close(photo_transform(name, 24)(image), expected, rtol=1e-5, atol=1e-5)


def test_a_run_holds_its_preprocessing_and_older_ones_load(tmp_path, image):
    out, recipe = tmp_path / "run", digits()
    train(recipe, out, limit_steps=1)
    facts = json.loads((out / "run.json").read_text())
    assert facts["preprocessing"][0]["step"] == "decode"
    assert facts["preprocessing"][-1]["step"] == "resize_to_configuration"
    run = load_run(out)
    assert run.preprocessing == preprocessing_of(recipe)
    assert run.preprocessing(image, 8).shape == (1, 8, 8)
    for file in out.glob("SHA256SUMS"):  # a run of before had none
        file.unlink()
    del facts["preprocessing"]
    (out / "run.json").write_text(json.dumps(facts))
    assert load_run(out).preprocessing == preprocessing_of(recipe)
    facts["preprocessing"] = [{"step": "guess"}]
    (out / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"run.json is damaged \(a step of preprocessing must be"):
        load_run(out)


def test_a_run_holds_what_the_test_images_of_its_data_go_through(tmp_path, monkeypatch):
    other = photo_transform("digits", 24)
    inner = setup.load_data
    monkeypatch.setattr(
        setup, "load_data", lambda *a, **k: replace(inner(*a, **k), eval_transform=other)
    )
    train(digits(), tmp_path / "run", limit_steps=1)
    assert load_run(tmp_path / "run").preprocessing == other


def test_a_task_of_ones_own_scales_by_itself(image):
    chain = preprocessing_of(digits("task=rare:Rare"))
    assert chain.to_values()[-1] == {"step": "task_scaling", "task": "rare:Rare"}
    assert chain(image).shape == (1, 12, 12)
    with pytest.raises(ValueError, match="rare:Rare scales by a rule of its own"):
        chain(image, 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "preprocessing must be a list of steps"),
        ([{"step": "decode", "mode": "RGB"}], "a step of preprocessing must be resize_to_config"),
        ([{"step": "center_crop"}, {}], "the step center_crop is not whole"),
        ([{"step": "center_crop", "size": 3, "side": 3}, {}], "center_crop has no side"),
        ([{"step": "scale", "divisor": 7}, {}], "divisor of scale must be 255, got 7"),
    ],
)
def test_what_is_no_chain_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_values(values)
