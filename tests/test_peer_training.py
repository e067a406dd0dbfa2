"""Runs of networks that teach each other, from the recipe to plain weight files."""

import copy
import csv
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.func import functional_call

from mutualnet import commands
from mutualnet.callbacks import CapacityGap
from mutualnet.checkpoints import latest_state
from mutualnet.cli import main
from mutualnet.config_text import override, read_recipe, write_recipe
from mutualnet.data.noise import NoisyLabels
from mutualnet.loop import TrainingDivergedError, TrainingModule
from mutualnet.losses import distillation_loss
from mutualnet.models import WideResNet
from mutualnet.peers import peer_step
from mutualnet.prepare import load_splits, prepare
from mutualnet.recipes import load_recipe
from mutualnet.runs import load_run
from mutualnet.sandwich import sandwich_step
from mutualnet.seeding import Purpose, generator
from mutualnet.space import Subnet
from mutualnet.tasks import Classification
from mutualnet.train import train
from mutualnet.variations import with_epochs, with_method
from tests.test_resume import _stop_after, _StoppedError

_NETWORK = (
    "{name: mutualnet.models.cifar:WideResNet, kwargs: {depth: 10, width_factor: 1}, "
    "heads: wrn16_1}"
)


def pair(*settings, count=2):
    """Networks that train in milliseconds."""
    peers = ", ".join([f"{{model: {_NETWORK}}}"] * (count - 1))
    common = [
        f"model={_NETWORK}",
        f"peers=[{peers}]",
        "method.name=independent",
        "space={width_range: [1.0, 1.0], resolutions: [12]}",
        "precision.precision=fp32",
        "precision.memory_format=contiguous",
        "optimizer.epochs=2",
        "optimizer.warmup_epochs=0",
        "optimizer.decay_all=true",
        "data.batch_size=32",
        "checkpoint_minutes=0",
        "table.latency_runs=0",
        "table.num_calibration_samples=64",
    ]
    return override(load_recipe("digits_demo"), [*common, *settings])


ROOT = Path(__file__).resolve().parents[1]
DCM = "teaching.method=dcm"


def test_networks_of_a_pair_begin_with_different_weights_and_the_first_as_it_would_alone():
    first, second = (own.supernet.model for own in prepare(pair(DCM)).learners)
    (alone,) = prepare(pair(DCM).alone(0)).learners
    assert not torch.equal(first.stem.weight, second.stem.weight)
    assert torch.equal(first.stem.weight, alone.supernet.model.stem.weight)


def test_a_step_is_the_graphs_gradient_and_one_optimizer_step():
    ready = prepare(pair(DCM, "optimizer.weight_decay=0", "optimizer.nesterov=false"))
    models = copy.deepcopy([own.supernet.model for own in ready.learners])
    heads = {n: copy.deepcopy(own.heads) for n, own in enumerate(ready.learners)}
    module, batch = TrainingModule(ready), next(iter(ready.loader()))
    peer_step(models, batch, ready.recipe.graph, task=Classification(), heads=heads)
    module.take_step(batch, 0)
    for number, own in enumerate(ready.learners):
        slow = [*models[number].parameters(), *heads[number].parameters()]
        mine = [*own.supernet.model.parameters(), *own.heads.parameters()]
        for a, b in zip(mine, slow, strict=True):
            torch.testing.assert_close(a.grad, b.grad)
            torch.testing.assert_close(a.detach(), b.detach() - 0.1 * b.grad)
    assert len(module.last_losses) == 24


def test_supernets_that_are_peers_have_every_gradient_right():
    """DCM between the full networks, in-place distillation inside of each."""
    ready = prepare(
        pair(DCM, "method.name=mutualnet", "space={width_range: [0.25, 1.0], resolutions: [12, 8]}")
    )
    recipe, batch = ready.recipe, next(iter(ready.loader()))
    subnets = recipe.method.rule.draw(recipe.space, generator(recipe.seed, Purpose.DRAW, 0))
    assert len(subnets) == 4
    slow = []
    models = copy.deepcopy([own.supernet.model for own in ready.learners])
    heads = {n: copy.deepcopy(own.heads) for n, own in enumerate(ready.learners)}
    lesson = peer_step(models, batch, recipe.graph, task=Classification(), heads=heads)
    for number, own in enumerate(ready.learners):
        full = dict(models[number].named_parameters())
        for subnet in subnets[1:]:
            narrow = own.supernet.extract(subnet, uncalibrated=True).train()
            sliced = {
                name: full[name][tuple(slice(size) for size in parameter.shape)]
                for name, parameter in narrow.named_parameters()
            }
            images = Classification().scale(batch, subnet)[0]
            logits = functional_call(narrow, sliced, (images,))
            distillation_loss(logits, lesson.outputs[number]).backward()
        slow.append(
            [*(p.grad for p in full.values()), *(p.grad for p in heads[number].parameters())]
        )
    module = TrainingModule(ready)
    module.steppers[0].step = lambda *_: None
    module.take_step(batch, 0)
    for own, expected in zip(ready.learners, slow, strict=True):
        parameters = [*own.supernet.model.parameters(), *own.heads.parameters()]
        for parameter, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)
    names = set(module.last_losses)
    assert {"kl_1_smallest", "kl_2_random1", "kl_2_1.C3", "ce_1.C2"} < names


METHODS = ("independent", "deep_supervision", "dml", "dks", "dcm")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_ends_with_two_plain_networks_and_their_scores(method, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        out = train(with_method(pair(), method), tmp_path / "run", limit_steps=3)
    info = json.loads((out / "run.json").read_text())
    assert info["networks"] == ["network1", "network2"]
    for name in info["networks"]:
        weights = load_file(out / name / "weights.safetensors")
        model = WideResNet(10, 1, 10, in_channels=1)
        model.load_state_dict(weights)
        run = load_run(out / name)
        assert run.recipe.peers == ()
        test = run.info["test"]
        assert test["num_samples"] > 300
        assert f"{name} (mutualnet.models.cifar:WideResNet): test top-1" in caplog.text
        assert f"error {100 - test['value']:.2f} %" in caplog.text
        # Scored in eval mode, by its own running statistics.
        data = load_splits(run.recipe).test
        images = torch.stack([data[i][0] for i in range(len(data))])
        right = model.eval()(images).argmax(1).numpy() == data.labels
        assert 100 * right.mean() == pytest.approx(test["value"])
        assert not list((out / name).glob("heads*"))
    with (out / "logs" / "metrics.csv").open() as file:
        columns = set(next(csv.reader(file)))
    expected = {str(edge) for edge in read_recipe(out / "config.yaml").graph.edges}
    assert expected <= columns
    with pytest.raises(ValueError, match=r"holds several networks; name one of them: .*network1"):
        load_run(out)


def test_a_teacher_teaches_every_network(tmp_path):
    first = train(pair().alone(0), tmp_path / "teacher", limit_steps=2)
    recipe = with_method(pair(f"teacher.name={first}", "teacher.alpha=0.75"), "kd")
    ready = prepare(recipe)
    module = TrainingModule(ready)
    module.take_step(next(iter(ready.loader())), 0)
    assert set(module.last_losses) == {"ce_1", "kl_1_3", "ce_2", "kl_2_3"}
    out = train(recipe, tmp_path / "run", limit_steps=2)
    assert (out / "network2" / "weights.safetensors").is_file()


def test_one_network_learns_from_its_own_heads_and_is_an_ordinary_run(tmp_path):
    recipe = pair("teaching.method=dks", "teaching.keep_heads=true", "peers=[]")
    out = train(recipe, tmp_path / "run", limit_steps=2)
    run = load_run(out)
    assert "test" in run.info
    assert set(run.supernet.model.state_dict()) == set(load_file(out / "weights.safetensors"))
    heads = load_file(out / "heads.safetensors")
    assert {name.split(".")[0] for name in heads} == {"C2", "C3"}
    commands.make_table(out)
    assert len(load_run(out).table.rows) == 1


def test_tables_are_made_for_each_of_two_supernets(tmp_path):
    space = "space={width_range: [0.5, 1.0], resolutions: [12, 8], width_step: 0.5}"
    out = train(pair(DCM, "method.name=mutualnet", space), tmp_path / "run", limit_steps=2)
    for name in ("network1", "network2"):
        commands.make_table(out / name)
        assert len(load_run(out / name).table.rows) == 4


@pytest.mark.parametrize(
    "settings",
    [
        (DCM, "optimizer.clip_norm=5.0", "optimizer.ema_decay=0.9", "optimizer.accumulate=2"),
        ("teaching.method=dml", "teaching.update=alternating"),
        (DCM, "teaching.optimizers=each", "teaching.checkpoint_heads=true"),
    ],
    ids=["joint", "alternating", "each"],
)
def test_an_interrupted_pair_ends_with_the_weights_of_one_that_was_not(
    settings, tmp_path, monkeypatch
):
    recipe = pair(*settings, "model.kwargs={depth: 10, width_factor: 1, dropout: 0.2}")
    whole = train(recipe, tmp_path / "whole", limit_steps=6)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        _stop_after(patch, 3)
        with pytest.raises(_StoppedError):
            train(recipe, out, limit_steps=6, resume=True)
    step, state = latest_state(tmp_path / ".run.partial" / "checkpoints")
    assert step == 3
    assert len(state["networks"]) == 2
    train(recipe, out, limit_steps=6, resume=True)
    for name in ("network1", "network2"):
        one, other = (load_file(path / name / "weights.safetensors") for path in (whole, out))
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_one_optimizer_and_one_each_take_the_same_steps_unless_gradients_are_clipped():
    def stems(*settings):
        ready = prepare(pair(DCM, *settings))
        module = TrainingModule(ready)
        for step, batch in zip(range(2), ready.loader(), strict=False):
            module.take_step(batch, step)
        return [own.supernet.model.stem.weight.detach() for own in ready.learners], module

    together, one = stems()
    apart, each = stems("teaching.optimizers=each")
    assert (len(one.steppers), len(each.steppers)) == (1, 2)
    for a, b in zip(together, apart, strict=True):
        assert torch.equal(a, b)
    together, _ = stems("optimizer.clip_norm=0.5")
    apart, _ = stems("optimizer.clip_norm=0.5", "teaching.optimizers=each")
    assert not torch.equal(together[0], apart[0])


def test_alternating_updates_let_the_second_network_see_the_first_ones_new_predictions():
    ready = prepare(pair("teaching.method=dml", "teaching.update=alternating"))
    start = copy.deepcopy([own.supernet.model for own in ready.learners])
    batch = next(iter(ready.loader()))
    module = TrainingModule(ready)
    module.take_step(batch, 0)
    images = batch[0]
    moved = ready.learners[0].supernet.model
    logits = start[1].train()(images)
    expected = distillation_loss(logits, moved.train()(images))
    torch.testing.assert_close(module.last_losses["kl_2_1"], expected.detach())
    before = distillation_loss(logits, start[0].train()(images))
    assert not torch.allclose(before, expected)


def test_a_batch_in_pieces_has_the_gradient_of_the_whole_for_peers():
    """Without BN, whose statistics are those of a piece."""
    plain = "{name: tests.plain_net:plain_net, heads: tests.plain_net:plain_heads}"
    gradients = []
    for pieces in (1, 3):
        ready = prepare(
            pair(
                DCM,
                f"model={plain}",
                f"peers=[{{model: {plain}}}]",
                f"optimizer.accumulate={pieces}",
                "teaching.head_names=[inner]",
            )
        )
        module = TrainingModule(ready)
        module.take_step(next(iter(ready.loader())), 0)
        gradients.append([p.grad for p in module.networks.parameters()])
    for whole, cut in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, cut, rtol=1e-3, atol=1e-6)


def test_each_backbone_can_have_its_own_schedule():
    base = pair(DCM)
    own = replace(
        base.optimizer, lr=0.01, schedule="step", milestones=(1,), momentum=0.5, nesterov=False
    )
    recipe = replace(base, peers=(replace(base.peers[0], optimizer=own),))
    ready = prepare(recipe)
    module = TrainingModule(ready)
    steps = ready.batches.steps_per_epoch
    rates = {}
    for step in (0, steps):
        module._set_rates(step)
        (optimizer,) = module.steppers
        rates[step] = {g["network"]: (g["lr"], g["momentum"]) for g in optimizer.param_groups}
    assert rates[0] == {0: (0.1, 0.9), 1: (0.01, 0.5)}
    assert rates[steps][0][0] == pytest.approx(0.05)
    assert rates[steps][1][0] == pytest.approx(0.001)
    longer = with_epochs(recipe, 4)
    assert [config.epochs for config in longer.optimizers] == [4, 4]
    assert longer.optimizers[1].milestones == (2,)


def test_momentum_is_forgotten_at_a_drop_where_the_recipe_says_so():
    step = ["optimizer.schedule=step", "optimizer.milestones=[1]"]
    for reset in ("false", "true"):
        ready = prepare(pair(DCM, *step, f"optimizer.reset_momentum={reset}"))
        module = TrainingModule(ready)
        module.take_step(next(iter(ready.loader())), 0)
        assert len(module.steppers[0].state) == len(list(module.networks.parameters()))
        module._set_rates(ready.batches.steps_per_epoch)
        assert bool(module.steppers[0].state) == (reset == "false")


def test_a_share_of_the_labels_is_wrong_by_the_seed():
    clean = load_splits(pair())
    noisy = load_splits(pair("data.label_noise=0.3"))
    assert isinstance(noisy.train, NoisyLabels)
    differs = noisy.train.labels != clean.train.labels
    assert differs.sum() == round(0.3 * len(differs))
    assert (noisy.test.labels == clean.test.labels).all()
    assert (noisy.select.labels == clean.select.labels).all()
    assert noisy.data_id != clean.data_id
    again = load_splits(pair("data.label_noise=0.3"))
    assert (again.train.labels == noisy.train.labels).all()
    other = load_splits(pair("data.label_noise=0.3", "seed=1"))
    assert other.data_id != noisy.data_id
    index = int(noisy.train.corrupted[0])
    image, label = noisy.train[index]
    assert label == noisy.train.labels[index] != clean.train.labels[index]
    assert image.shape == (1, 12, 12)
    # Wrong classes are spread over all others.
    shifts = (noisy.train.labels - clean.train.labels)[differs] % 10
    assert set(shifts) == set(range(1, 10))
    ready = prepare(pair("data.label_noise=0.3"))
    assert F.one_hot(next(iter(ready.loader()))[1], 10).shape == (32, 10)


def test_a_peer_whose_loss_runs_away_is_named(caplog):
    ready = prepare(pair("teaching.method=dml"))
    module, watch = TrainingModule(ready), CapacityGap(every=1)
    for step in range(30):
        module.done = step + 1
        losses = (2.0, 2.1) if step < 10 else (0.5, 2.0)
        module.last_losses = {f"ce_{n + 1}": torch.tensor(v) for n, v in enumerate(losses)}
        watch.on_train_batch_end(None, module)
        if step < 10:
            assert not caplog.text
    assert caplog.text.count("the loss of network 2 is") == 1
    assert "that of network 1 only" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["teaching.method=kd"], "method kd needs a trained teacher: --teacher"),
        (["peers=[]", DCM], "method dcm needs at least two networks"),
        (["teaching.method=magic"], "teaching.method must be one of independent, deep_super"),
        ([DCM, "teaching.head_names=[]"], "method dcm needs auxiliary heads"),
        ([DCM, "teaching.head_names=[C9]"], "must be among C2, C3, C4, got C9"),
        ([DCM, "model.heads=nowhere"], "network nowhere has no auxiliary heads"),
        ([DCM, "model.heads=tests.plain_net:nothing"], "'tests.plain_net:nothing' cannot be im"),
        ([DCM, "model.heads=tests.plain_net:plain_heads"], "must return the heads C2, C3, got inn"),
        (
            [DCM, "space={width_range: [0.5, 0.5], resolutions: [12], model_width_mult: 1.0}"],
            "full",
        ),
        (
            ["peers.0.model={name: tests.plain_net:seven_classes}"],
            r"for each of the 10 classes of digits, got outputs \(1, 7\)",
        ),
        (
            [
                "model={name: tests.plain_net:always_the_same}",
                "peers.0.model={name: tests.plain_net:always_the_same}",
            ],
            "networks 1 and 2 share some",
        ),
        (["teaching.update=alternating", "optimizer.accumulate=2"], "alternating updates need"),
        (["teaching.tau=0"], "tau must be > 0"),
        (["teaching.same_stage_weight=-1"], "same_stage_weight must be >= 0"),
        (["data.label_noise=1.5"], r"label_noise must lie in \[0, 1\]"),
        (
            ["peers.0.model.nam=x"],
            "a recipe has no key peers.0.model.nam. Did you mean peers.0.model.name",
        ),
        (["peers.0={model: {name: wrn16_1}}"], "must name a value of one peer"),
        (["peers.optimizer.lr=1"], "the number in peers.optimizer must be below 1"),
        (["peers.5.model.name=x"], "the number in peers.5 must be below 1"),
        (["peers.0.modle.name=x"], "no key peers.0.modle. Did you mean peers.0.model?"),
        (["peers.0.optimizer.clip_norm=1.0"], "clip_norm is the whole gradient's"),
        ([DCM, "model.heads=tests.plain_net:odd_heads", "teaching.head_names=[half]"], "'half'"),
        (
            ["peers.0.optimizer={lr: 0.1, epochs: 7}"],
            "every peer's epochs must be 2, got 7",
        ),
    ],
)
def test_pairs_that_cannot_train_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        prepare(pair(*settings))


def test_values_of_one_peer_are_set_by_its_number():
    recipe = pair("peers.0.model.kwargs={depth: 16, width_factor: 1}")
    assert recipe.models[1].kwargs["depth"] == 16
    assert recipe.models[0].kwargs["depth"] == 10


def test_a_method_keeps_the_space_unless_asked():
    recipe = pair("space={width_range: [0.25, 1.0], resolutions: [12, 8]}", "method.name=mutualnet")
    taught = with_method(recipe, "dcm")
    assert (taught.space, taught.method) == (recipe.space, recipe.method)
    assert taught.teaching.method == "dcm"
    alone = with_method(taught, "independent")
    assert alone.teaching.method == "independent"
    assert alone.space.width_range == (1.0, 1.0)
    wider = with_method(taught, None, width_range=(0.5, 1.0))
    assert wider.teaching.method == "dcm"
    assert wider.space.smallest == Subnet(width_mult=0.5, resolution=8)


def test_single_values_of_a_peers_schedule_start_from_the_recipes_own():
    recipe = pair("peers.0.optimizer.lr=0.02")
    assert recipe.optimizers[1] == replace(recipe.optimizer, lr=0.02)


def test_a_network_whose_loss_is_not_finite_stops_all_before_any_moves():
    ready = prepare(pair("teaching.optimizers=each"))
    module, batch = TrainingModule(ready), next(iter(ready.loader()))
    first, second = (own.supernet.model for own in ready.learners)
    with torch.no_grad():
        second.head.bias.fill_(float("inf"))
    before = first.stem.weight.detach().clone()
    with pytest.raises(TrainingDivergedError, match="1x12 of network 2 is nan at step 1"):
        module.take_step(batch, 0)
    assert torch.equal(first.stem.weight, before)


def test_in_turn_the_error_says_which_networks_had_theirs():
    ready = prepare(pair("teaching.method=dml", "teaching.update=alternating"))
    with torch.no_grad():
        ready.learners[1].supernet.model.head.bias.fill_(float("inf"))
    module = TrainingModule(ready)
    ready.learners[0].supernet.model.head.register_forward_hook(lambda *_: None)
    with pytest.raises(TrainingDivergedError, match="was not updated by it, those before it were"):
        module.take_step(next(iter(ready.loader())), 0)


def test_averaged_networks_end_with_averaged_heads():
    ready = prepare(pair(DCM, "optimizer.ema_decay=0.5"))
    module = TrainingModule(ready)
    weights = [own.heads["C2"][-1].weight for own in ready.learners]
    seen = []
    for step, batch in zip(range(2), ready.loader(), strict=False):
        module.take_step(batch, step)
        seen.append([weight.detach().clone() for weight in weights])
    module.finish()
    for number, weight in enumerate(weights):
        torch.testing.assert_close(weight, (seen[0][number] + seen[1][number]) / 2)


def test_a_state_of_another_version_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _stop_after(patch, 2)
        with pytest.raises(_StoppedError):
            train(pair(), tmp_path / "run", limit_steps=4)
    monkeypatch.setattr("mutualnet.train.STATE_VERSION", 99)
    with pytest.raises(ValueError, match="written by another version of mutualnet"):
        train(pair(), tmp_path / "run", limit_steps=4, resume=True)


def test_training_is_not_lost_if_scoring_fails(tmp_path, monkeypatch):
    whole = train(pair(DCM), tmp_path / "whole", limit_steps=3)
    with monkeypatch.context() as patch:
        patch.setattr("mutualnet.outcome.score_here", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError) as caught:
            train(pair(DCM, "checkpoint_minutes=60"), tmp_path / "run", limit_steps=3)
    assert "go on with --resume" in caught.value.__notes__[0]
    out = train(pair(DCM, "checkpoint_minutes=60"), tmp_path / "run", limit_steps=3, resume=True)
    for name in ("network1", "network2"):
        one, other = (load_file(path / name / "weights.safetensors") for path in (whole, out))
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert not (out / "checkpoints").exists()


SUPERNETS = (
    "method.name=mutualnet",
    "space={width_range: [0.25, 1.0], resolutions: [12, 8]}",
)


def test_supernets_that_learn_in_turn_move_with_their_narrower_networks():
    """Every network's step has its narrower ones' gradients; the next sees its new predictions."""
    ready = prepare(
        pair("teaching.method=dml", "teaching.update=alternating", *SUPERNETS, "optimizer.lr=0.05")
    )
    recipe, batch = ready.recipe, next(iter(ready.loader()))
    subnets = recipe.method.rule.draw(recipe.space, generator(recipe.seed, Purpose.DRAW, 0))
    twins = copy.deepcopy([own.supernet for own in ready.learners])
    config = recipe.optimizer
    optimizers = [
        torch.optim.SGD(
            twin.parameters(), 0.05, config.momentum, 0, config.weight_decay, config.nesterov
        )
        for twin in twins
    ]
    images, labels = batch
    task = Classification()
    for number, (twin, other) in enumerate(zip(twins, reversed(twins), strict=True)):
        logits = twin.model(images)
        target = other.model(images).detach()
        loss = F.cross_entropy(logits, labels) + distillation_loss(logits, target)
        loss.backward()
        sandwich_step(twin, batch, subnets[1:], task=task, teacher=logits.detach())
        optimizers[number].step()
    TrainingModule(ready).take_step(batch, 0)
    for own, twin in zip(ready.learners, twins, strict=True):
        pairs = zip(own.supernet.parameters(), twin.parameters(), strict=True)
        for mine, slow in pairs:
            torch.testing.assert_close(mine, slow, rtol=1e-3, atol=1e-5)


def test_an_interrupted_pair_of_supernets_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    recipe = pair(DCM, *SUPERNETS)
    whole = train(recipe, tmp_path / "whole", limit_steps=4)
    with monkeypatch.context() as patch:
        _stop_after(patch, 2)
        with pytest.raises(_StoppedError):
            train(recipe, tmp_path / "run", limit_steps=4)
    out = train(recipe, tmp_path / "run", limit_steps=4, resume=True)
    for name in ("network1", "network2"):
        one, other = (load_file(path / name / "weights.safetensors") for path in (whole, out))
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_narrow_networks_are_peers_where_no_heads_are_asked_for():
    space = "space={width_range: [0.5, 0.5], resolutions: [12], model_width_mult: 1.0}"
    ready = prepare(pair("teaching.method=dml", space))
    twins = [
        own.supernet.extract(ready.recipe.space.largest, uncalibrated=True)
        for own in ready.learners
    ]
    batch = next(iter(ready.loader()))
    peer_step([twin.train() for twin in twins], batch, ready.recipe.graph, task=Classification())
    module = TrainingModule(ready)
    module.steppers[0].step = lambda *_: None
    module.take_step(batch, 0)
    for own, twin in zip(ready.learners, twins, strict=True):
        full = dict(own.supernet.model.named_parameters())
        for name, parameter in twin.named_parameters():
            block = full[name].grad[tuple(slice(size) for size in parameter.shape)]
            torch.testing.assert_close(block, parameter.grad, rtol=1e-4, atol=1e-6)
            assert int(full[name].grad.count_nonzero()) <= parameter.numel()


def test_the_command_line_trains_a_pair_and_tells_both_errors(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(pair("teaching.method=independent"), tmp_path / "pair.yaml")
    words = ["train", "pair.yaml", "--epochs", "1", "--limit-steps", "2", "--out", "r"]
    assert main([*words, "--method", "dcm"]) == 0
    shown = capsys.readouterr()
    for name in ("network1", "network2"):
        assert f"next: mutualnet table r/{name}" in shown.out
        WideResNet(10, 1, 10, in_channels=1).load_state_dict(
            load_file(tmp_path / "r" / name / "weights.safetensors")
        )
    assert read_recipe(tmp_path / "r" / "config.yaml").teaching.method == "dcm"
    teacher = ["--method", "kd", "--teacher", "r/network1"]
    assert main([*words[:-1], "taught", *teacher]) == 0
    assert read_recipe(tmp_path / "taught" / "config.yaml").teacher.name == "r/network1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "kd"], "method kd needs a trained teacher"),
        (
            ["--method", "dcm", "--set", "model.heads=tests.plain_net:lost_heads"],
            "no module 'stage9'",
        ),
        (
            ["--set", "peers.0.model={name: tests.plain_net:seven_classes}"],
            "each of the 10 classes",
        ),
        (
            [
                "--set",
                "model={name: tests.plain_net:always_the_same}",
                "peers.0.model={name: tests.plain_net:always_the_same}",
            ],
            "every network must be given once",
        ),
        (["--set", "peers=[]", "--method", "dml"], "at least two networks"),
    ],
)
def test_mistakes_with_pairs_are_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(tmp_path)
    write_recipe(pair(), tmp_path / "pair.yaml")
    assert main(["train", "pair.yaml", "--out", "r", *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("mutualnet: ")
    assert message in lines[-1]
    assert not (tmp_path / "r").exists()
