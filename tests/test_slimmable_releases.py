"""Checkpoints of the authors' codes, made from their names and shapes, load into networks here."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F

from mutualnet.config.serialization import override
from mutualnet.models import create_model
from mutualnet.pretrained import copy_weights
from mutualnet.recipes import load_recipe
from mutualnet.slimmable_releases import is_release
from mutualnet.training.setup import set_up_training
from tests.small_runs import digits

WIDTHS = (0.25, 1.0, 0.9)
"""Of the lists of BN layers; the full one does not stand at an end. Rounded to multiples of 8,
small layers are as wide at 0.9 as at 1."""


class Release:
    """A state dict in the making, with random values of sizes that keep outputs in order.

    Args:
        norms: How the code keeps BN: `us` (shared weights, a list of statistics), `s` (a list of
            whole BN layers) or `plain`.
    """

    def __init__(self, norms):
        self.norms, self.state = norms, {}
        self.draws = torch.Generator().manual_seed(3)

    def conv(self, name, c_in, c_out, size, groups=1):
        weight = torch.randn(c_out, c_in // groups, size, size, generator=self.draws)
        self.state[f"{name}.weight"] = weight * (2 / weight[0].numel()) ** 0.5

    def linear(self, name, c_in, classes):
        self.state[f"{name}.weight"] = torch.randn(classes, c_in, generator=self.draws) * 0.05
        self.state[f"{name}.bias"] = torch.randn(classes, generator=self.draws)

    def _weights(self, name, count):
        self.state[f"{name}.weight"] = torch.rand(count, generator=self.draws) + 0.5
        self.state[f"{name}.bias"] = torch.randn(count, generator=self.draws) * 0.2

    def _statistics(self, name, count):
        self.state[f"{name}.running_mean"] = torch.randn(count, generator=self.draws) * 0.2
        self.state[f"{name}.running_var"] = torch.rand(count, generator=self.draws) + 0.5
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(9)

    def norm(self, name, count, norms=None):
        norms = norms or self.norms
        if norms != "s":
            self._weights(name, count)
        if norms == "plain":
            self._statistics(name, count)
            return
        for index, width in enumerate(WIDTHS):
            here = int(count * width + 4) // 8 * 8
            if norms == "s":
                self._weights(f"{name}.bn.{index}", here)
            self._statistics(f"{name}.bn.{index}", here)


V1 = [(64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2)]
"""Channels, blocks and stride of every stage, from the papers."""
V2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)]
V2 += [(6, 320, 1, 1)]
RESNET50 = [(256, 3, 1), (512, 4, 2), (1024, 6, 2), (2048, 3, 2)]


def mobilenet_v1(norms="us", classes=10):
    made, channels, number = Release(norms), 32, 0
    made.conv("features.0.0", 3, 32, 3)
    made.norm("features.0.1", 32)
    for out, count, _ in V1:
        for _ in range(count):
            number += 1
            body = f"features.{number}.body"
            made.conv(f"{body}.0", channels, channels, 3, groups=channels)
            made.norm(f"{body}.1", channels)
            made.conv(f"{body}.3", channels, out, 1)
            made.norm(f"{body}.4", out)
            channels = out
    made.linear("classifier.0", 1024, classes)
    return made.state


def mobilenet_v2(norms="us", classes=10):
    made, channels, number = Release(norms), 32, 0
    made.conv("features.0.0", 3, 32, 3)
    made.norm("features.0.1", 32)
    for expansion, out, count, _ in V2:
        for _ in range(count):
            number += 1
            body, at, inner = f"features.{number}.body", 0, channels * expansion
            if expansion > 1:
                made.conv(f"{body}.0", channels, inner, 1)
                made.norm(f"{body}.1", inner)
                at = 3
            made.conv(f"{body}.{at}", inner, inner, 3, groups=inner)
            made.norm(f"{body}.{at + 1}", inner)
            made.conv(f"{body}.{at + 3}", inner, out, 1)
            made.norm(f"{body}.{at + 4}", out)
            channels = out
    made.conv("features.18.0", 320, 1280, 1)
    made.norm("features.18.1", 1280, "plain")
    made.linear("classifier.0", 1280, classes)
    return made.state


def resnet50(norms="us", classes=10):
    made, channels, number = Release(norms), 64, 0
    made.conv("features.0.0", 3, 64, 7)
    made.norm("features.0.1", 64)
    for out, count, _ in RESNET50:
        for index in range(count):
            number += 1
            block = f"features.{number}"
            made.conv(f"{block}.body.0", channels, out // 4, 1)
            made.norm(f"{block}.body.1", out // 4)
            made.conv(f"{block}.body.3", out // 4, out // 4, 3)
            made.norm(f"{block}.body.4", out // 4)
            made.conv(f"{block}.body.6", out // 4, out, 1)
            made.norm(f"{block}.body.7", out)
            if index == 0:
                made.conv(f"{block}.shortcut.0", channels, out, 1)
                made.norm(f"{block}.shortcut.1", out)
            channels = out
    made.linear("classifier.0", 2048, classes)
    return made.state


def wide_resnet(norms="us", classes=10, depth=16, factor=2):
    made, channels = Release(norms), 16
    made.conv("conv1", 3, 16, 3)
    for stage in (1, 2, 3):
        out = 16 * factor * 2 ** (stage - 1)
        for index in range((depth - 4) // 6):
            block = f"block{stage}.layer.{index}"
            made.norm(f"{block}.bn1", channels)
            made.conv(f"{block}.conv1", channels, out, 3)
            made.norm(f"{block}.bn2", out)
            made.conv(f"{block}.conv2", out, out, 3)
            if channels != out:
                made.conv(f"{block}.convShortcut", channels, out, 1)
            channels = out
    made.norm("bn1", channels)
    made.linear("fc", channels, classes)
    return made.state


class Slow:
    """What a release computes at full width, written out with torch's functions.

    Args:
        state: A release.
    """

    def __init__(self, state):
        self.state = state

    def conv(self, x, name, stride=1, groups=1):
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)

    def norm(self, x, name):
        inner = f"{name}.bn.{WIDTHS.index(1.0)}"
        where = inner if f"{inner}.running_mean" in self.state else name
        learned = inner if f"{inner}.weight" in self.state else name
        mean, var = (self.state[f"{where}.{key}"] for key in ("running_mean", "running_var"))
        weight, bias = (self.state[f"{learned}.{key}"] for key in ("weight", "bias"))
        shape = (1, -1, 1, 1)
        scaled = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
        return scaled * weight.view(shape) + bias.view(shape)

    def classify(self, x, name):
        return F.linear(x.mean((2, 3)), self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def mobilenet_v1(self, x):
        x, number = F.relu6(self.norm(self.conv(x, "features.0.0", 2), "features.0.1")), 0
        for _, count, stride in V1:
            for index in range(count):
                number += 1
                body, step = f"features.{number}.body", stride if index == 0 else 1
                x = self.conv(x, f"{body}.0", step, groups=x.shape[1])
                x = F.relu6(self.norm(x, f"{body}.1"))
                x = F.relu6(self.norm(self.conv(x, f"{body}.3"), f"{body}.4"))
        return self.classify(x, "classifier.0")

    def mobilenet_v2(self, x):
        x, number = F.relu6(self.norm(self.conv(x, "features.0.0", 2), "features.0.1")), 0
        for expansion, _, count, stride in V2:
            for index in range(count):
                number += 1
                body, step, y, at = f"features.{number}.body", stride if index == 0 else 1, x, 0
                if expansion > 1:
                    y, at = F.relu6(self.norm(self.conv(y, f"{body}.0"), f"{body}.1")), 3
                y = self.conv(y, f"{body}.{at}", step, groups=y.shape[1])
                y = F.relu6(self.norm(y, f"{body}.{at + 1}"))
                y = self.norm(self.conv(y, f"{body}.{at + 3}"), f"{body}.{at + 4}")
                x = x + y if x.shape == y.shape else y
        x = F.relu6(self.norm(self.conv(x, "features.18.0"), "features.18.1"))
        return self.classify(x, "classifier.0")

    def resnet50(self, x):
        x, number = F.relu(self.norm(self.conv(x, "features.0.0", 2), "features.0.1")), 0
        x = F.max_pool2d(x, 3, 2, 1)
        for _, count, stride in RESNET50:
            for index in range(count):
                number += 1
                block, step = f"features.{number}", stride if index == 0 else 1
                body = f"{block}.body"
                y = F.relu(self.norm(self.conv(x, f"{body}.0"), f"{body}.1"))
                y = F.relu(self.norm(self.conv(y, f"{body}.3", step), f"{body}.4"))
                y = self.norm(self.conv(y, f"{body}.6"), f"{body}.7")
                if index == 0:
                    x = self.norm(self.conv(x, f"{block}.shortcut.0", step), f"{block}.shortcut.1")
                x = F.relu(x + y)
        return self.classify(x, "classifier.0")

    def wide_resnet(self, x):
        x = self.conv(x, "conv1")
        for stage in (1, 2, 3):
            for index in range(2):
                block, step = f"block{stage}.layer.{index}", 2 if stage > 1 and index == 0 else 1
                active = F.relu(self.norm(x, f"{block}.bn1"))
                y = F.relu(self.norm(self.conv(active, f"{block}.conv1", step), f"{block}.bn2"))
                y = self.conv(y, f"{block}.conv2")
                if f"{block}.convShortcut.weight" in self.state:
                    x = self.conv(active, f"{block}.convShortcut", step)
                x = x + y
        return self.classify(F.relu(self.norm(x, "bn1")), "fc")


MADE = {
    "mobilenet_v1": (mobilenet_v1, "timm:mobilenetv1_100"),
    "mobilenet_v2": (mobilenet_v2, "timm:mobilenetv2_100"),
    "resnet50": (resnet50, "timm:resnet50"),
    "wide_resnet": (wide_resnet, "wrn16_2"),
}


def _write(state, path, wrapper="model"):
    """As the authors' codes do it: through DataParallel, beside the optimizer."""
    parallel = {f"module.{name}": value for name, value in state.items()}
    torch.save({wrapper: parallel, "optimizer": {}, "last_epoch": 7}, path)
    return str(path)


@pytest.mark.parametrize("norms", ["us", "s", "plain"])
@pytest.mark.parametrize("name", MADE)
def test_the_network_computes_what_the_release_does(name, norms, tmp_path, caplog):
    make, network = MADE[name]
    state = make(norms)
    assert is_release(state)
    model = create_model(network, num_classes=10).eval()
    caplog.set_level(logging.INFO)
    found = copy_weights(model, _write(state, tmp_path / "best_model.pt"))
    assert not found.left
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = getattr(Slow(state), name)(images)
        logits = model(images)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    said = {
        "us": "BN statistics of 2 narrower widths in the file are left out",
        "s": "BN weights and statistics of 2 narrower widths in the file are left out",
    }
    assert (said[norms] in caplog.text) if norms in said else "left out" not in caplog.text


def test_networks_of_the_same_names_are_served_too(tmp_path):
    state = mobilenet_v1()
    path = _write(state, tmp_path / "model.pt", "state_dict")
    model = create_model("mobilenet_v1_cifar", num_classes=10)
    assert not copy_weights(model, path).left
    assert torch.equal(model.conv_stem.weight, state["features.0.0.weight"])
    model = create_model("torchvision:resnet50", num_classes=10)
    assert not copy_weights(model, _write(resnet50("plain"), tmp_path / "r.pt")).left


def test_a_classifier_for_other_classes_stays_fresh_and_is_named(tmp_path, caplog):
    model = create_model("wrn16_2", num_classes=7)
    fresh = model.head.weight.detach().clone()
    caplog.set_level(logging.INFO)
    found = copy_weights(model, _write(wide_resnet(), tmp_path / "model.pt"))
    assert found.left == ("head.weight", "head.bias")
    assert "new: head.weight, head.bias" in caplog.text
    assert torch.equal(model.head.weight, fresh)


def test_counts_of_batches_may_be_absent(tmp_path):
    state = {n: v for n, v in wide_resnet("s").items() if not n.endswith("num_batches_tracked")}
    found = copy_weights(create_model("wrn16_2", num_classes=10), _write(state, tmp_path / "m.pt"))
    assert all(name.endswith("num_batches_tracked") for name in found.left)


def _without(state, *names):
    return {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: _without(s, "block2.layer.1.conv2.weight", "fc.bias"),
            r"the network also needs stage2\.1\.conv2\.weight, head\.bias$",
        ),
        (
            lambda s: s | {"block3.layer.7.conv1.weight": s["block3.layer.1.conv1.weight"]},
            r"the network has no place for block3\.layer\.7\.conv1\.weight$",
        ),
        (
            lambda s: s | {"extra.weight": torch.ones(2)},
            r"the network has no place for extra\.weight$",
        ),
        (
            lambda s: s | {"conv1.weight": torch.ones(16, 1, 3, 3)},
            r"stem\.weight must be \(16, 3, 3, 3\) as in .* the file has \(16, 1, 3, 3\)$",
        ),
        (
            lambda s: s | {"fc.weight": torch.ones(10, 99)},
            r"head\.weight must be \(10, 128\) as in the network, but the file has \(10, 99\)$",
        ),
        (
            lambda s: {n: v for n, v in s.items() if ".bn.1." not in n},
            "one entry of their BN lists must be as wide as the network in every layer, but 0 are",
        ),
        (
            lambda s: _without(s, "bn1.bn.1.running_var"),
            r"the network also needs norm\.running_var$",
        ),
        (
            lambda s: _without(s, "bn1.weight"),
            r"the network also needs norm\.weight$",
        ),
    ],
    ids=["missing", "block", "extra", "shape", "classifier", "no full width", "entry", "bn"],
)
def test_what_does_not_fit_is_named_in_one_line(change, message, tmp_path):
    path = _write(change(wide_resnet()), tmp_path / "model.pt")
    model = create_model("wrn16_2", num_classes=10)
    before = model.stem.weight.detach().clone()
    with pytest.raises(ValueError, match=message) as caught:
        copy_weights(model, path)
    assert str(caught.value).startswith(f"weights of {path} do not fit: ")
    assert "\n" not in str(caught.value)
    assert torch.equal(model.stem.weight, before)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            "timm:resnet18",
            "a MobileNet v1 of .* for timm:mobilenetv1_100, but the network has conv",
        ),
        ("timm:mobilenetv2_100", "a MobileNet v1 of the slimmable networks' releases"),
        ("timm:mobilenetv1_125", r"the file has \(32, 3, 3, 3\), and 135 more tensors differ"),
    ],
)
def test_another_network_is_refused(network, message, tmp_path):
    path = _write(mobilenet_v1(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=message):
        copy_weights(create_model(network, num_classes=10), path)


@pytest.mark.parametrize(
    "name", ["mobilenetv1_100", "mobilenetv2_100", "resnet50", "test_convnext", "vgg11"]
)
def test_networks_here_are_no_releases(name):
    assert not is_release(create_model(f"timm:{name}", num_classes=2).state_dict())
    assert not is_release(create_model("torchvision:mobilenet_v2", num_classes=2).state_dict())


def test_a_recipe_starts_from_one(tmp_path):
    path = _write(wide_resnet(classes=100), tmp_path / "model.pt")
    recipe = override(load_recipe("digits_demo"), ["model={name: wrn16_2}", f"model.init={path}"])
    with pytest.raises(ValueError, match=r"stem\.weight must be \(16, 1, 3, 3\) as in the"):
        set_up_training(recipe)
    made = wide_resnet()
    made["conv1.weight"] = made["conv1.weight"][:, :1].clone()
    setup = set_up_training(
        digits("model={name: wrn16_2}", f"model.init={_write(made, tmp_path / 'grey.pt')}")
    )
    model = setup.networks[0].supernet.model
    assert torch.equal(model.head.weight, made["fc.weight"])
    assert torch.equal(model.norm.running_mean, made["bn1.bn.1.running_mean"])
