"""Pretrained networks get the images they know."""

from __future__ import annotations

import logging

import pytest
import timm
import torch
from torch import nn

from mutualnet.config.serialization import override
from mutualnet.tasks import Classification
from mutualnet.training.networks import build_network, make_teacher
from mutualnet.training.normalization import (
    Normalization,
    timm_normalization,
    warn_of_normalization,
    with_images_of,
)
from mutualnet.training.setup import load_splits
from tests.small_runs import digits

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Normalization((0.5,) * 3, (0.5,) * 3)


def _normalised(pixels, by):
    return (pixels - torch.tensor(by.mean).view(-1, 1, 1)) / torch.tensor(by.std).view(-1, 1, 1)


def test_a_network_sees_its_own_normalisation():
    pixels = torch.rand(2, 3, 4, 5)
    model = with_images_of(nn.Identity(), IMAGENET, HALF)
    torch.testing.assert_close(model(_normalised(pixels, IMAGENET)), _normalised(pixels, HALF))
    assert not list(model.parameters())


def test_nothing_comes_before_a_network_that_agrees():
    model = nn.Identity()
    assert (
        with_images_of(model, IMAGENET, Normalization(*map(tuple, (IMAGENET.mean, IMAGENET.std))))
        is model
    )
    gray = Normalization((0.5,), (0.5,))
    assert with_images_of(model, gray, HALF) is model


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", IMAGENET),
        ("mobilenetv1_100", HALF),
        ("mobilenetv1_100.ra4_e3600_r224_in1k", HALF),
    ],
)
def test_timm_tells_what_its_weights_know(name, expected):
    assert timm_normalization(name) == expected


@pytest.fixture
def pretrained(monkeypatch):
    """Networks of timm's with random weights in place of pretrained ones."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained=False, **kwargs: create(name, **kwargs)
    )


def test_a_teacher_of_timms_gets_images_as_it_knows_them(pretrained, monkeypatch):
    monkeypatch.setattr("mutualnet.training.networks.pretrained_model", _ten_classes)
    recipe = override(digits(), ["space.resolutions=[32]", "teacher.name=timm:mobilenetv1_100"])
    data = load_splits(recipe)
    teacher = make_teacher(recipe, data, torch.device("cpu"))
    pixels = torch.rand(2, 1, 32, 32)
    expected = teacher[-1](_normalised(pixels, Normalization((0.5,), (0.5,))))
    found = teacher(_normalised(pixels, Normalization(data.mean, data.std)))
    torch.testing.assert_close(found, expected)
    assert not teacher.training


def _ten_classes(name, **kwargs):
    return timm.create_model(name, num_classes=10, **kwargs)


def test_weights_that_know_other_images_are_warned_of(pretrained, caplog):
    recipe = override(
        digits(),
        [
            "model={name: 'timm:mobilenetv1_100', init: 'timm:mobilenetv1_100'}",
            "space.resolutions=[32]",
        ],
    )
    with caplog.at_level(logging.WARNING):
        build_network(recipe, 0, load_splits(recipe), torch.device("cpu"), task=Classification())
    assert (
        "timm:mobilenetv1_100 was trained on images normalised by mean 0.5, std 0.5, the data have "
        "mean 0.305, std" in caplog.text
    )


@pytest.mark.parametrize(
    ("source", "have", "warns"),
    [
        ("timm:mobilenetv1_100", IMAGENET, True),
        ("timm:resnet18", IMAGENET, False),
        ("timm:resnet18", HALF, True),
        ("timm:resnet18", Normalization((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)), False),
        ("weights.pt", HALF, False),
    ],
)
def test_what_is_near_enough_is_not_warned_of(source, have, warns, caplog):
    with caplog.at_level(logging.WARNING):
        warn_of_normalization(source, have)
    assert bool(caplog.messages) == warns
