"""Weights from elsewhere, copied by name."""

from __future__ import annotations

import logging
import shutil

import pytest
import timm
import torch
from safetensors.torch import save_file

from mutualnet.config.serialization import override
from mutualnet.models.cifar import WideResNet, wrn16_1
from mutualnet.pretrained import copy_weights, pretrained_model, read_weights
from mutualnet.run_directory import load_run
from mutualnet.training.setup import set_up_training
from mutualnet.training.train import train
from tests.small_runs import digits


def _write(kind, state, folder):
    path = folder / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "plain":
        torch.save(state, path)
    elif kind == "checkpoint":
        torch.save({"epoch": 3, "state_dict": state, "optimizer": {}}, path)
    elif kind == "trainer's":
        torch.save({"model": {"state_dict": state}}, path)
    else:
        torch.save({"model": {f"module.{n}": v for n, v in state.items()}}, path)
    return str(path)


@pytest.mark.parametrize(
    "kind", ["safetensors", "plain", "checkpoint", "data parallel", "trainer's"]
)
def test_tensors_of_the_same_name_and_shape_are_copied_and_a_new_head_is_not(
    kind, tmp_path, caplog
):
    source = wrn16_1(100)
    model = wrn16_1(7)
    head = model.head.weight.detach().clone()
    path = _write(kind, source.state_dict(), tmp_path)
    with caplog.at_level(logging.INFO):
        found = copy_weights(model, path)
    assert set(found.left) == {"head.weight", "head.bias"}
    assert "new: head.weight, head.bias" in caplog.text
    assert torch.equal(model.head.weight, head)
    for name, value in source.state_dict().items():
        if not name.startswith("head"):
            assert torch.equal(model.state_dict()[name], value)


def test_what_does_not_fit_is_refused_and_never_matched_by_position(tmp_path):
    model = wrn16_1(7)
    renamed = {f"layer{i}": v for i, v in enumerate(wrn16_1(7).state_dict().values())}
    with pytest.raises(ValueError, match=r"fit only 0 % of it\. The network has stem\.weight"):
        copy_weights(model, _write("safetensors", renamed, tmp_path))
    wider = WideResNet(16, 2, 7).state_dict()
    with pytest.raises(ValueError, match="must fit the network by name and shape"):
        copy_weights(model, _write("plain", wider, tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as weights"),
        (b"PK nonsense", "cannot be read as weights"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, content, message):
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_weights(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_tensors_without_values_are_refused(tmp_path):
    state = wrn16_1(7).state_dict()
    state["stem.weight"] = state["stem.weight"].to("meta")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"must be dense tensors .* got stem\.weight"):
        copy_weights(wrn16_1(7), str(tmp_path / "w.pth"))


def test_no_pickled_code_runs_and_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="must hold named tensors, got dict"):
        read_weights(str(tmp_path / "w.pth"))
    torch.save(wrn16_1(4), tmp_path / "model.pth")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        read_weights(str(tmp_path / "model.pth"))
    with pytest.raises(ValueError, match="must come from timm:NAME, a run directory or a file"):
        read_weights(str(tmp_path / "none.pth"))


def test_pretrained_networks_come_through_timm(tmp_path, monkeypatch):
    """The real path, with timm's own way of naming a local file in place of its hub."""
    source = timm.create_model("resnet18")
    save_file(source.state_dict(), tmp_path / "resnet18.safetensors")
    create, overlay = timm.create_model, {"file": str(tmp_path / "resnet18.safetensors")}
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda name, **kwargs: create(name, pretrained_cfg_overlay=overlay, **kwargs),
    )
    model = pretrained_model("resnet18")
    assert torch.equal(model.conv1.weight, source.conv1.weight)
    assert torch.equal(read_weights("timm:resnet18")["conv1.weight"], source.conv1.weight)
    with pytest.raises(ValueError, match="timm has no network 'resnet0'"):
        pretrained_model("resnet0")


def test_weights_that_cannot_be_had_are_one_line(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ValueError, match=r"resnet18 could not be had \(no route to host\)"):
        pretrained_model("resnet18")


@pytest.fixture
def recipe():
    return digits()


def test_a_run_starts_from_another_and_its_old_layers_learn_slower(recipe, tmp_path):
    first = train(recipe, tmp_path / "first", limit_steps=3)
    setup = set_up_training(override(recipe, [f"model.init={first}", "model.init_lr_mult=0.1"]))
    state = read_weights(str(first))
    for name, value in setup.networks[0].supernet.model.state_dict().items():
        assert torch.equal(value, state[name])
    assert len(setup.networks[0].origin.initialized_names) == len(
        list(setup.networks[0].supernet.model.parameters())
    )
    second = train(
        override(recipe, [f"model.init={first}", "model.init_lr_mult=0.0"]),
        tmp_path / "second",
        limit_steps=3,
    )
    again = read_weights(str(second))
    assert all(
        torch.equal(again[n], v)
        for n, v in state.items()
        if "running" not in n and "num_batches" not in n
    )


S_NET = ("method.name=s_net", "space={widths: [1.0, 0.5, 0.25], resolutions: [12]}")


@pytest.fixture(scope="module")
def slimmable(tmp_path_factory):
    return train(digits(*S_NET), tmp_path_factory.mktemp("runs") / "s_net", limit_steps=3)


@pytest.mark.parametrize("source", ["{}", "{}/weights.safetensors"])
def test_widths_start_from_the_bn_weights_that_a_run_has_for_them(slimmable, source, caplog):
    init = f"model.init={source.format(slimmable)}"
    started = set_up_training(digits(*S_NET, init)).networks[0].supernet
    trained = load_run(slimmable).supernet
    state = trained.own_norms.state_dict()
    assert started.own_norms.state_dict().keys() == state.keys()
    for name, value in started.own_norms.state_dict().items():
        assert torch.equal(value, state[name])
    assert any(
        not torch.equal(value, trained.model.get_parameter(whole)[: len(value)])
        for (name, value), whole in zip(
            trained.own_norms.named_parameters(), trained.own_norms.sources().values(), strict=True
        )
    )
    assert "no BN weights of their own" not in caplog.text


def test_damaged_bn_weights_of_widths_are_one_line(slimmable, tmp_path):
    run = shutil.copytree(slimmable, tmp_path / "run")
    (run / "own_norms.safetensors").write_bytes(b"{")
    (run / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match=r"own_norms\.safetensors cannot be read \("):
        set_up_training(digits(*S_NET, f"model.init={run}"))


def test_widths_that_a_run_has_no_bn_weights_for_are_warned_of(slimmable, caplog):
    widths = "space={widths: [1.0, 0.75, 0.25], resolutions: [12]}"
    recipe = digits(S_NET[0], widths, f"model.init={slimmable}")
    started = set_up_training(recipe).networks[0].supernet
    assert f"1 of the widths have no BN weights of their own in {slimmable}" in caplog.text
    trained = load_run(slimmable).supernet
    narrow, theirs = (
        {n.split(".", 2)[2]: v for n, v in net.own_norms.state_dict().items() if n[7] == "1"}
        for net in (started, trained)
    )
    assert narrow.keys() == theirs.keys()
    assert all(torch.equal(narrow[name], theirs[name]) for name in narrow)


def test_a_teacher_of_other_classes_is_refused(recipe, tmp_path):
    first = train(recipe, tmp_path / "first", limit_steps=1)
    (first / "SHA256SUMS").unlink()
    info = (first / "run.json").read_text()
    (first / "run.json").write_text(info.replace('"9"', '"nine"'))
    with pytest.raises(ValueError, match="must have digits's classes, got others"):
        set_up_training(override(recipe, [f"teacher.name={first}"]))
    with pytest.raises(ValueError, match="must be a run directory"):
        set_up_training(override(recipe, [f"teacher.name={tmp_path / 'none'}"]))


def test_a_run_learns_from_a_teacher(recipe, tmp_path):
    first = train(recipe, tmp_path / "first", limit_steps=8)
    (first / "table.json").write_text("{")  # a teacher needs no table
    taught = override(recipe, [f"teacher.name={first}", "teacher.alpha=1.0", "teacher.tau=2.0"])
    setup = set_up_training(taught)
    assert not any(p.requires_grad for p in setup.teacher.parameters())
    assert not setup.teacher.training
    out = train(taught, tmp_path / "second", limit_steps=2)
    assert (out / "weights.safetensors").is_file()
