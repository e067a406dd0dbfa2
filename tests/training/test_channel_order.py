"""Which trained weights are put in order before they train on, and that it happens once."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from mutualnet.cli import main
from mutualnet.commands import train as train_command
from mutualnet.config import ModelConfig
from mutualnet.config.serialization import override
from mutualnet.data.feeding import calibration_loader
from mutualnet.models.cifar import WideResNet
from mutualnet.pretrained import Initialized, copy_weights
from mutualnet.run_directory import load_run
from mutualnet.space import Subnet
from mutualnet.supernet.sort_channels import CRITERIA
from mutualnet.training import channel_order, dry_run
from mutualnet.training.setup import set_up_training
from mutualnet.training.train import train
from tests.refusals import the_one_line
from tests.small_runs import (
    StoppedError,
    assert_same_weights,
    digits,
    pair,
    stop_after,
)

ALONE = ("method.name=independent", "space={width_range: [1.0, 1.0], resolutions: [12]}")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A network that was trained at full width alone."""
    return train(digits(*ALONE), tmp_path_factory.mktemp("alone") / "run", limit_steps=5)


@pytest.fixture(scope="module")
def mutual(tmp_path_factory):
    """One whose narrow widths were trained."""
    return train(digits(), tmp_path_factory.mktemp("mutual") / "run", limit_steps=5)


def _start(source, *settings):
    """The network that a run would begin to train."""
    (network,) = set_up_training(digits(f"model.init={source}", *settings)).networks
    return network


def _weights(source):
    return load_file(source / "weights.safetensors")


def _is_as_stored(network, source) -> bool:
    stored = _weights(source)
    return all(torch.equal(v, stored[n]) for n, v in network.supernet.model.state_dict().items())


def _norms(network) -> np.ndarray:
    """Mean |weight| of each channel of one untied layer."""
    model = network.supernet.model
    group = next(g for g in network.supernet.plan.groups if len(g.layers) == 1)
    return model.get_parameter(f"{group.name}.weight").detach().abs().mean((1, 2, 3)).numpy()


def test_a_network_trained_alone_is_sorted_and_computes_the_same(alone, caplog):
    caplog.set_level(logging.INFO)
    network = _start(alone)
    assert network.origin.sorted_by == channel_order.DEFAULT
    assert f"channels of {alone} (trained at full width alone) are put in order by l1" in (
        caplog.text
    )
    assert not _is_as_stored(network, alone)
    assert (np.diff(_norms(network)) <= 1e-7).all()
    plain = load_run(alone).supernet.model
    x = torch.randn(4, 1, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(
            network.supernet.model.eval()(x), plain.eval()(x), rtol=1e-5, atol=1e-5
        )
    assert all(p.grad is None for p in network.supernet.parameters())


def test_a_network_whose_narrow_widths_were_trained_stays_in_order(mutual, caplog):
    caplog.set_level(logging.INFO)
    network = _start(mutual)
    assert network.origin.sorted_by is None
    assert f"channels of {mutual} (trained from width 0.25 on) stay as they are" in caplog.text
    assert _is_as_stored(network, mutual)
    caplog.clear()
    file = _start(mutual / "weights.safetensors")  # the same by the name of its file
    assert file.origin.sorted_by is None
    assert _is_as_stored(file, mutual)
    with pytest.raises(ValueError, match=r"l2 would undo the order of .* width 0.25 on: .* Leave"):
        _start(mutual, "model.sort_channels=l2")


def test_a_file_that_says_nothing_is_sorted(mutual, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name in ("w.safetensors", "w.pt"):
        path = tmp_path / name
        if path.suffix == ".pt":
            torch.save({"state_dict": _weights(mutual)}, path)
        else:
            shutil.copy(mutual / "weights.safetensors", path)
        assert _start(path).origin.sorted_by == "l1"
        assert f"channels of {path} (nothing tells how it was trained) are put in" in caplog.text
        assert _start(path, "model.sort_channels=none").origin.sorted_by is None


def test_a_damaged_record_tells_nothing(alone, tmp_path):
    copy = shutil.copytree(alone, tmp_path / "copy")
    (copy / "SHA256SUMS").unlink()
    (copy / "config.yaml").write_text("space: {")
    assert copy_weights(WideResNet(10, 1, 10, in_channels=1), str(copy)).trained_from is None


def test_weights_of_timm_are_sorted_and_releases_are_not(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    source = timm.create_model("test_resnet", in_chans=1)
    file = tmp_path / "test_resnet.safetensors"
    save_file(source.state_dict(), file)
    create = timm.create_model
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda name, **kwargs: create(
            name,
            **kwargs,
            **({"pretrained_cfg_overlay": {"file": str(file)}} if kwargs.get("pretrained") else {}),
        ),
    )
    model = create("test_resnet", in_chans=3, num_classes=10)
    save_file(create("test_resnet").state_dict(), file)
    found = copy_weights(model, "timm:test_resnet")
    assert found.trained_from == 1.0
    space, config = digits().space, ModelConfig(name="timm:test_resnet", init="timm:test_resnet")
    assert channel_order.choose_criterion(config, space, found) == "l1"
    assert "timm:test_resnet (trained at full width alone) are put in order" in caplog.text


def test_a_published_slimmable_network_stays_in_order(caplog):
    caplog.set_level(logging.INFO)
    found = Initialized(copied=("a",), left=(), trained_from=0.0)
    config = ModelConfig(name="wrn28_10", init="checkpoint.pth.tar")
    space = digits().space
    assert channel_order.choose_criterion(config, space, found) is None
    assert "(published as a slimmable network) stay as they are" in caplog.text
    with pytest.raises(ValueError, match=r"would undo the order of checkpoint\.pth\.tar"):
        channel_order.choose_criterion(replace(config, sort_channels="l1"), space, found)
    # Only widths from 0.9 on have an order to lose; who knows better may ask for another.
    boosted = replace(found, trained_from=0.9)
    assert channel_order.choose_criterion(config, space, boosted) is None
    assert channel_order.choose_criterion(replace(config, sort_channels="l1"), space, boosted)


def test_the_full_network_alone_needs_no_order(alone):
    network = _start(alone, *ALONE)
    assert network.origin.sorted_by is None
    assert _is_as_stored(network, alone)
    narrow = ("method.name=independent", "space={width_range: [0.5, 0.5], resolutions: [12]}")
    assert _start(alone, *narrow).origin.sorted_by == "l1"


def test_taylor_takes_its_gradients_from_train_images_of_the_seed(alone, caplog):
    one, again = (_start(alone, "model.sort_channels=taylor") for _ in range(2))
    assert one.origin.sorted_by == "taylor"
    for name, value in one.supernet.model.state_dict().items():
        assert torch.equal(value, again.supernet.model.state_dict()[name])
    assert not np.array_equal(_norms(one), _norms(_start(alone, "model.sort_channels=l1")))
    assert all(p.grad is None for p in one.supernet.parameters())


def test_taylor_sorts_by_the_mean_of_absolute_gradients(alone, monkeypatch):
    """Against the plain sum over the batches, by hand."""
    recipe = digits(f"model.init={alone}", "data.batch_size=64")
    setup = set_up_training(recipe)
    model, held = load_run(alone).supernet.model, {}
    monkeypatch.setattr(channel_order, "NUM_IMAGES", 256)
    for images, labels in calibration_loader(
        setup.data.calibration, 64, num_samples=256, seed=recipe.seed, num_workers=0
    ):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        grads = torch.autograd.grad(loss, list(model.parameters()))
        for (name, _), grad in zip(model.named_parameters(), grads, strict=True):
            held.setdefault(name, []).append(grad.abs())
    assert len(held["stem.weight"]) == 4
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    channel_order.hold_gradients(model, recipe, setup.data, setup.task, torch.device("cpu"))
    assert model.training
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, torch.stack(held[name]).mean(0))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])  # running statistics too


def test_the_literal_of_the_setting_names_every_criterion():
    for criterion in CRITERIA:
        assert ModelConfig(name="a", init="b", sort_channels=criterion)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sort-channels", "best"], "--sort-channels"),
        (["--set", "model.sort_channels=best"], "sort_channels must be one of auto, none, l1, l2"),
        (["--sort-channels", "l1"], "orders the channels of trained weights, but model.init names"),
        (["--limit-steps", "-1"], "limit_steps must be >= 0, got -1"),
    ],
)
def test_a_wrong_value_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits_demo", *words]) == 2
    assert message in the_one_line(capsys.readouterr().err)


def test_the_option_is_short_for_the_key(monkeypatch):
    recipes = []
    monkeypatch.setattr(train_command, "train", lambda recipe, *_, **__: recipes.append(recipe))
    monkeypatch.setattr(train_command, "networks_of", lambda path: [])
    assert main(["train", "digits_demo", "--init", "timm:x", "--sort-channels", "taylor"]) == 0
    assert recipes[0].model.sort_channels == "taylor"


# -------------------------------------------------------------------------------------------- runs


def test_a_network_is_written_as_it_begins_and_a_loaded_run_is_not_sorted_again(alone, tmp_path):
    recipe = digits(f"model.init={alone}")
    out = train(recipe, tmp_path / "run", limit_steps=0)
    info = json.loads((out / "run.json").read_text())
    assert (info["steps"], info["sorted_channels"], info["last_losses"]) == (0, "l1", {})
    begun = set_up_training(recipe).networks[0].supernet.model.state_dict()
    stored, run = _weights(out), load_run(out)
    for name, value in run.supernet.model.state_dict().items():
        assert torch.equal(value, stored[name])
        assert torch.equal(value, begun[name])
    # Its narrow sub-networks are the leading channels as they are stored.
    half = run.supernet.extract(Subnet(width_mult=0.5, resolution=8), uncalibrated=True)
    wide = run.supernet.model.get_parameter("stage1.0.conv1.weight")
    narrow = half.get_parameter("stage1.0.conv1.weight")
    assert torch.equal(narrow, wide[: narrow.shape[0], : narrow.shape[1]])


def test_no_steps_suit_a_dry_run_and_networks_that_teach_each_other(tmp_path):
    assert dry_run(digits(), limit_steps=0).seconds == 0
    averaged = "optimizer.ema_decay=0.9"
    out = train(pair("teaching.method=dcm", averaged), tmp_path / "run", limit_steps=0)
    for number in (1, 2):
        info = json.loads((out / f"network{number}" / "run.json").read_text())
        assert (info["steps"], info["last_losses"]) == (0, {})
        assert info["test"]["num_samples"] > 0  # as it begins


def test_a_sorted_run_that_is_stopped_goes_on_to_the_same_bits(alone, tmp_path, monkeypatch):
    recipe = digits(f"model.init={alone}", "model.sort_channels=taylor", "checkpoint_minutes=0")
    whole = train(recipe, tmp_path / "whole", limit_steps=6)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StoppedError):
            train(recipe, tmp_path / "run", limit_steps=6)

    def refuse(*_):
        raise AssertionError("a resumed run is sorted already")

    monkeypatch.setattr(channel_order, "hold_gradients", refuse)
    monkeypatch.setattr("mutualnet.training.networks.hold_gradients", refuse)
    monkeypatch.setattr("mutualnet.training.networks.choose_criterion", refuse)
    out = train(recipe, tmp_path / "run", limit_steps=6, resume=True)
    assert_same_weights(whole, out)
    assert load_run(out).info["sorted_channels"] == "taylor"
    with pytest.raises(ValueError, match="sort_channels was taylor, is none"):
        train(override(recipe, ["model.sort_channels=none"]), out, resume=True)


def test_norms_of_its_own_are_sorted_with_the_channels(alone):
    """Every width's BN weights start as the leading ones of the sorted network."""
    network = _start(
        alone,
        "method.name=s_net",
        "space={width_range: [0.5, 1.0], widths: [1.0, 0.5], resolutions: [12]}",
    )
    assert network.origin.sorted_by == "l1"
    supernet = network.supernet
    narrow = supernet.extract(Subnet(width_mult=0.5, resolution=12), uncalibrated=True)
    own = narrow.get_parameter("stage1.0.norm2.weight")
    full = supernet.model.get_parameter("stage1.0.norm2.weight")
    assert torch.equal(own, full[: len(own)])
    assert len(network.origin.initialized_names) == len(list(supernet.parameters()))


def test_each_of_two_networks_has_its_own_order(alone, tmp_path):
    recipe = pair(
        "method.name=mutualnet",
        "space={width_range: [0.25, 1.0], resolutions: [12, 8]}",
        f"model.init={alone}",
        f"peers.0.model.init={alone}",
        "peers.0.model.sort_channels=none",
    )
    out = train(recipe, tmp_path / "run", limit_steps=1)
    infos = [json.loads((out / f"network{n}" / "run.json").read_text()) for n in (1, 2)]
    assert [info["sorted_channels"] for info in infos] == ["l1", None]
