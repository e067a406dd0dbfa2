"""What outputs say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mutualnet.data import photo_transform
from mutualnet.runtime import AdaptiveRunner, Prediction
from mutualnet.space import Subnet
from tests.small_artifact import NAMES, SUBNETS, picture


def _expected(net, image, subnet):
    chain = photo_transform("cifar10", 32)
    module = net.extract(subnet).eval()
    with torch.inference_mode():
        return module(chain(Image.fromarray(image), subnet.resolution)[None]).softmax(1)[0]


@pytest.mark.parametrize("subnet", SUBNETS, ids=str)
def test_probabilities_are_those_of_pytorch(artifact, net, subnet):
    runner = AdaptiveRunner(artifact)
    for seed in range(3):
        (found,) = runner.run(picture(seed), subnet)
        expected = _expected(net, picture(seed), subnet)
        np.testing.assert_allclose(found.probabilities, expected.numpy(), atol=1e-4)
        assert found.class_name == NAMES[int(expected.argmax())]
        assert found.subnet == subnet


def test_plain_values_of_a_prediction_can_be_written_as_json():
    found = Prediction(
        class_name="dog",
        probability=2 / 3,
        probabilities=(1 / 3, 2 / 3),
        subnet=Subnet(width_mult=0.5, resolution=32),
    )
    assert json.loads(json.dumps(found.to_dict())) == {
        "class": "dog",
        "probability": 0.666667,
        "probabilities": [0.333333, 0.666667],
    }
