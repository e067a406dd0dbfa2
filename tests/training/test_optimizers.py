"""Any optimizer of timm's factory: as in a plain loop, forgotten at a drop, resumed, refused."""

from __future__ import annotations

import copy
import io

import pytest
import timm.optim
import torch
import torch.nn.functional as F
from torch import nn

from mutualnet.cli import main
from mutualnet.config.recipe import OptimizerConfig
from mutualnet.config.serialization import override
from mutualnet.peers import peer_step_in_turn
from mutualnet.sandwich import sandwich_step
from mutualnet.seeding import Purpose, generator
from mutualnet.tasks import Classification
from mutualnet.training.dry_run import dry_run
from mutualnet.training.module import TrainingModule
from mutualnet.training.optimizer import (
    check_optimizer,
    forget_momentum,
    keep_frozen,
    make_optimizer,
    parameter_groups,
    set_learning_rate,
)
from mutualnet.training.schedules import learning_rate_factor
from mutualnet.training.setup import set_up_training
from mutualnet.training.train import train
from tests.small_runs import StoppedError, assert_same_weights, digits, pair, stop_after

CPU = torch.device("cpu")
PLAIN = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.02, momentum=0.9, nesterov=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.02),
    "lamb": lambda groups: timm.optim.Lamb(groups, lr=0.02),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.02, alpha=0.9, momentum=0.9),
}
"""Written without our machinery, with the defaults that timm's factory has."""
ALONE = ("method.name=independent", "space={width_range: [1.0, 1.0], resolutions: [8]}")
STEPS = 5


def _settings(name):
    return [
        f"optimizer.name={name}",
        "optimizer.lr=0.02",
        "optimizer.weight_decay=0.05",
        "optimizer.warmup_epochs=0.1",
        "optimizer.clip_norm=0.5",
    ]


def _plain_groups(model):
    """By hand: the stem, of grey images, has one input channel as depthwise layers do."""
    decays = [p for p in model.parameters() if p.dim() > 1 and p is not model.stem.weight]
    others = [p for p in model.parameters() if p.dim() == 1 or p is model.stem.weight]
    return [{"params": decays, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]


def _plain_rate(setup, step):
    return 0.02 * learning_rate_factor(
        setup.recipe.optimizer,
        step,
        steps_per_epoch=setup.batches.steps_per_epoch,
        total_steps=setup.batches.stop,
    )


@pytest.mark.parametrize("name", PLAIN)
def test_a_network_alone_is_trained_as_by_a_plain_loop(name):
    setup = set_up_training(digits(*ALONE, *_settings(name)))
    model = copy.deepcopy(setup.networks[0].supernet.model)
    optimizer = PLAIN[name](_plain_groups(model))
    module = TrainingModule(setup)
    start = copy.deepcopy(model.state_dict())
    for step, (images, labels) in zip(range(STEPS), setup.loader(), strict=False):
        module.take_step((images, labels), step)
        for group in optimizer.param_groups:
            group["lr"] = _plain_rate(setup, step)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    trained = setup.networks[0].supernet.model.state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(trained[key], value), key
        assert not torch.equal(start[key], value), key


@pytest.mark.parametrize("name", PLAIN)
def test_shared_parameters_are_moved_as_by_an_optimizer_that_sees_the_full_ones(name):
    """Narrow networks' gradients lie in those of the full parameters, in micro-batches too."""
    setup = set_up_training(digits(*_settings(name), "optimizer.accumulate=2"))
    recipe, own = setup.recipe, setup.networks[0].supernet
    supernet = copy.deepcopy(own)
    optimizer = PLAIN[name](_plain_groups(supernet.model))
    module = TrainingModule(setup)
    for step, batch in zip(range(STEPS), setup.loader(), strict=False):
        module.take_step(batch, step)
        for group in optimizer.param_groups:
            group["lr"] = _plain_rate(setup, step)
        optimizer.zero_grad()
        subnets = recipe.method.value.draw(recipe.space, generator(0, Purpose.DRAW, step))
        for part in setup.task.split(batch, 2):
            weight = len(part[1]) / len(batch[1])
            sandwich_step(supernet, part, subnets, task=setup.task, weight=weight)
        nn.utils.clip_grad_norm_(supernet.parameters(), 0.5)
        optimizer.step()
    for (key, value), trained in zip(
        supernet.model.state_dict().items(), own.model.state_dict().values(), strict=True
    ):
        assert torch.equal(trained, value), key


def _small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4), nn.Linear(6, 5)
    )


def _made(config, model):
    """One whose first layer is to stay as it is."""
    groups = parameter_groups(
        model, config, initialized=list(model[0].parameters()), init_lr_mult=0.0
    )
    return make_optimizer([{**group, "network": 0} for group in groups], config)


def _move(model, optimizer, steps):
    for step in steps:
        draws = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draws)
        set_learning_rate(optimizer.param_groups, 0.01 * (1 - step / 40))
        keep_frozen(optimizer.param_groups)
        optimizer.step()


def _weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def _are_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _every_name():
    compiled = ("kron", "muon")  # a minute of compilation
    for name in [*timm.optim.list_optimizers(), "lookahead_adamw", "lookahead_sgd"]:
        info = timm.optim.get_optimizer_info(name.removeprefix("lookahead_"))
        if isinstance(info.opt_class, str) or info.second_order:
            continue
        is_slow = any(part in name for part in compiled)
        yield pytest.param(name, marks=pytest.mark.slow if is_slow else [])


@pytest.mark.filterwarnings("ignore:.*opt_einsum")  # which makes Kron faster
@pytest.mark.parametrize("name", list(_every_name()))
def test_every_one_goes_on_forgets_and_leaves_frozen_layers(name):
    config = OptimizerConfig(lr=0.01, epochs=1, name=name, weight_decay=0.05)
    check_optimizer(config, CPU)
    model = _small()
    optimizer = _made(config, model)
    fresh, frozen = copy.deepcopy(optimizer.state_dict()), model[0].weight.detach().clone()
    _move(model, optimizer, range(7))
    moved = _weights(model)

    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twin = copy.deepcopy(model)
    resumed = _made(config, twin)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    _move(model, optimizer, range(7, 14))
    _move(twin, resumed, range(7, 14))
    assert _are_equal(_weights(model), _weights(twin))
    assert not _are_equal(_weights(model)[2:], moved[2:])
    assert torch.equal(model[0].weight, frozen)

    forget_momentum(optimizer, fresh, 0)
    twin = copy.deepcopy(model)
    unmoved = _made(config, twin)
    if "rng_state" in fresh:  # Kron's random numbers go on, as those of other networks must
        state = unmoved.state_dict() | {"rng_state": optimizer.state_dict()["rng_state"]}
        unmoved.load_state_dict(state)
    _move(model, optimizer, range(14, 22))
    _move(twin, unmoved, range(14, 22))
    assert _are_equal(_weights(model), _weights(twin))


def test_forgetting_is_for_one_network_of_an_optimizer():
    config = OptimizerConfig(lr=0.01, epochs=1, name="adan")  # which counts steps in its groups
    models = [_small(), _small()]
    groups = [
        {**group, "network": number}
        for number, model in enumerate(models)
        for group in parameter_groups(model, config)
    ]
    optimizer = make_optimizer(groups, config)
    fresh = optimizer.state_dict()
    _move(nn.ModuleList(models), optimizer, range(3))
    forget_momentum(optimizer, fresh, 1)
    counts = {group["network"]: group.get("step") for group in optimizer.param_groups}
    assert counts == {0: 3, 1: None}
    assert set(optimizer.state) == set(models[0].parameters())


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("adamw", "optimizer.kwargs={betas: [0.8, 0.9], fused: true}"),
        ("lamb", "optimizer.accumulate=2"),
        ("rmsprop", "optimizer.ema_decay=0.9"),
        ("lookahead_adamw", "compute.precision=bf16"),
    ],
)
def test_an_interrupted_run_ends_with_the_same_bits(name, more, tmp_path, monkeypatch):
    recipe = digits(*_settings(name), more, "checkpoint_minutes=0", "watch.every_epochs=0")
    whole = train(recipe, tmp_path / "whole", limit_steps=14)
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        with pytest.raises(StoppedError):
            train(recipe, tmp_path / "run", limit_steps=14)
    assert_same_weights(whole, train(recipe, tmp_path / "run", limit_steps=14, resume=True))


def test_peers_that_learn_in_turn_have_an_adamw_each():
    alternating = ["teaching.method=dml", "teaching.update=alternating"]
    recipe = pair(*alternating, *_settings("adamw"), "optimizer.decay_all=false")
    setup = set_up_training(recipe)
    models = copy.deepcopy([own.supernet.model for own in setup.networks])
    optimizers = [PLAIN["adamw"](_plain_groups(model)) for model in models]
    module = TrainingModule(setup)
    for step, batch in zip(range(STEPS), setup.loader(), strict=False):
        module.take_step(batch, step)
        for optimizer in optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = _plain_rate(setup, step)
        for number, _ in peer_step_in_turn(models, batch, recipe.graph, task=Classification()):
            nn.utils.clip_grad_norm_(models[number].parameters(), 0.5)
            optimizers[number].step()
    for model, own in zip(models, setup.networks, strict=True):
        assert _are_equal(_weights(model), _weights(own.supernet.model))


def test_peers_may_have_different_ones_if_each_has_its_own():
    changes = ["peers.0.optimizer.name=lamb", "peers.0.optimizer.lr=0.01"]
    with pytest.raises(ValueError, match="one set of kwargs: give every peer the same, or set te"):
        pair(*changes)
    setup = set_up_training(pair(*changes, "teaching.optimizers=each"))
    module = TrainingModule(setup)
    module.take_step(next(iter(setup.loader())), 0)
    found = [type(optimizer) for optimizer in module.torch_optimizers]
    assert found == [torch.optim.SGD, timm.optim.Lamb]
    corrected = pair("optimizer.name=adamc", "peers.0.optimizer.lr=0.01")
    with pytest.raises(ValueError, match=r"an optimizer adamc each: set teaching\.optimizers=each"):
        TrainingModule(set_up_training(corrected))


def test_a_dry_run_counts_what_the_optimizer_remembers():
    disk = {
        name: dry_run(digits(f"optimizer.name={name}"), steps=2).disk_mib
        for name in ("sgd", "adamw")
    }
    count = sum(
        p.numel() for p in set_up_training(digits()).networks[0].supernet.model.parameters()
    )
    # A second moment, in both of the states that are kept, and a count of steps per parameter.
    assert disk["adamw"] - disk["sgd"] == pytest.approx(2 * 4 * count / 2**20, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["optimizer.name=adamww"], r"must be one of timm's, got 'adamww'\. Did you mean adamw, "),
        (["optimizer.name=AdamW"], r"got 'AdamW'\. Did you mean adamw, .* There are adabelief, "),
        (["optimizer.name=foo_adamw"], "must be one of timm's, got 'foo_adamw'"),
        (["optimizer.name=adahessian"], "adahessian needs second derivatives"),
        (["optimizer.name=bnbadam"], "bnbadam cannot be made on this machine"),
        (
            ["optimizer.name=adamw", "optimizer.kwargs.beta=0.9"],
            "arguments of adamw, which has no beta. It has betas, eps, amsgrad",
        ),
        (["optimizer.kwargs.betas=[0.9,0.99]"], "of sgd, which has no betas. It has dampening"),
        (["optimizer.kwargs.lr=0.1"], r"must leave lr out, which is set by optimizer\.lr"),
        (["optimizer.kwargs.nesterov=true"], r"leave nesterov out, .* optimizer\.nesterov"),
        (["optimizer.kwargs=3"], r"optimizer\.kwargs must be names and values, such as {eps: 1e-8"),
        (
            ["optimizer.name=adamw", "optimizer.kwargs.betas=[0.9,2]"],
            r"adamw must be made with optimizer\.kwargs=\{'betas': \[0\.9, 2\]\}",
        ),
        (["optimizer.name=adamw", "optimizer.kwargs.eps=small"], "adamw must be made with"),
        (["optimizer.name=adamw", "optimizer.kwargs.differentiable=true"], "but refuses"),
        (
            ["optimizer.name=adamw", "optimizer.momentum=0.8"],
            r"adamw does not have the optimizer\.momentum of sgd, got 0\.8\. Leave it at 0\.9",
        ),
        (["optimizer.name=rmsprop", "optimizer.nesterov=false"], r"optimizer\.nesterov of sgd"),
        (["optimizer.layer_decay=1.5"], r"layer_decay must lie in \(0, 1\] or be null"),
        (["optimizer.layer_decay=0.7"], "needs a network that tells its layers .* WideResNet has"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_one_line(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        set_up_training(digits(*settings))
    assert "\n" not in str(caught.value)


def test_the_switch_leaves_the_old_ones_arguments_and_warns_of_its_rate(tmp_path, caplog, capsys):
    words = ["train", "digits_demo", "--dry-run", "--limit-steps", "2"]
    words += ["--set", "compute.precision=fp32", "compute.memory_format=contiguous"]
    assert main([*words, "--optimizer", "adamw"]) == 0
    assert "the learning rate 0.1 was chosen for sgd, not for adamw: choose one" in caplog.text
    caplog.clear()
    assert main([*words, "--optimizer", "adamw", "--lr", "0.001"]) == 0
    assert "was chosen for" not in caplog.text
    assert main([*words, "--optimizer", "adam_w"]) == 2
    assert "Did you mean adamw" in capsys.readouterr().err


def test_a_recipe_keeps_it_as_text(tmp_path):
    recipe = digits("optimizer.name=adamw", "optimizer.kwargs={eps: 1e-6, betas: [0.9, 0.95]}")
    assert recipe.optimizer.kwargs == {"eps": 1e-6, "betas": [0.9, 0.95]}
    assert override(recipe, ["optimizer.kwargs.eps=1e-7"]).optimizer.kwargs["eps"] == 1e-7
    out = train(recipe, tmp_path / "run", limit_steps=1)
    assert train(recipe, out, limit_steps=1, resume=True) == out
