"""Steps of a training run of networks that teach each other."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from mutualnet.config.transforms import with_epochs
from mutualnet.losses import distillation_loss
from mutualnet.peers import peer_step
from mutualnet.sandwich import sandwich_step
from mutualnet.seeding import Purpose, generator
from mutualnet.tasks import Classification
from mutualnet.training.callbacks import CapacityGap
from mutualnet.training.divergence import TrainingDivergedError
from mutualnet.training.module import TrainingModule
from mutualnet.training.setup import set_up_training
from tests.small_runs import DCM, SUPERNETS, pair


def test_a_step_is_the_graphs_gradient_and_one_optimizer_step():
    setup = set_up_training(pair(DCM, "optimizer.weight_decay=0", "optimizer.nesterov=false"))
    models = copy.deepcopy([own.supernet.model for own in setup.networks])
    heads = {n: copy.deepcopy(own.heads) for n, own in enumerate(setup.networks)}
    module, batch = TrainingModule(setup), next(iter(setup.loader()))
    peer_step(models, batch, setup.recipe.graph, task=Classification(), heads=heads)
    module.take_step(batch, 0)
    for number, own in enumerate(setup.networks):
        slow = [*models[number].parameters(), *heads[number].parameters()]
        mine = [*own.supernet.model.parameters(), *own.heads.parameters()]
        for a, b in zip(mine, slow, strict=True):
            torch.testing.assert_close(a.grad, b.grad)
            torch.testing.assert_close(a.detach(), b.detach() - 0.1 * b.grad)
    assert len(module.last_losses) == 24


def test_supernets_that_are_peers_have_every_gradient_right():
    """DCM between the full networks, in-place distillation inside of each."""
    setup = set_up_training(
        pair(DCM, "method.name=mutualnet", "space={width_range: [0.25, 1.0], resolutions: [12, 8]}")
    )
    recipe, batch = setup.recipe, next(iter(setup.loader()))
    subnets = recipe.method.value.draw(recipe.space, generator(recipe.seed, Purpose.DRAW, 0))
    assert len(subnets) == 4
    slow = []
    models = copy.deepcopy([own.supernet.model for own in setup.networks])
    heads = {n: copy.deepcopy(own.heads) for n, own in enumerate(setup.networks)}
    lesson = peer_step(models, batch, recipe.graph, task=Classification(), heads=heads)
    for number, own in enumerate(setup.networks):
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
    module = TrainingModule(setup)
    module.torch_optimizers[0].step = lambda *_: None
    module.take_step(batch, 0)
    for own, expected in zip(setup.networks, slow, strict=True):
        parameters = [*own.supernet.model.parameters(), *own.heads.parameters()]
        for parameter, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)
    names = set(module.last_losses)
    assert {"kl_1_smallest", "kl_2_random1", "kl_2_1.C3", "ce_1.C2"} < names


def test_one_optimizer_and_one_each_take_the_same_steps_unless_gradients_are_clipped():
    def stems(*settings):
        setup = set_up_training(pair(DCM, *settings))
        module = TrainingModule(setup)
        for step, batch in zip(range(2), setup.loader(), strict=False):
            module.take_step(batch, step)
        return [own.supernet.model.stem.weight.detach() for own in setup.networks], module

    together, one = stems()
    apart, each = stems("teaching.optimizers=each")
    assert (len(one.torch_optimizers), len(each.torch_optimizers)) == (1, 2)
    for a, b in zip(together, apart, strict=True):
        assert torch.equal(a, b)
    together, _ = stems("optimizer.clip_norm=0.5")
    apart, _ = stems("optimizer.clip_norm=0.5", "teaching.optimizers=each")
    assert not torch.equal(together[0], apart[0])


def test_alternating_updates_let_the_second_network_see_the_first_ones_new_predictions():
    setup = set_up_training(pair("teaching.method=dml", "teaching.update=alternating"))
    start = copy.deepcopy([own.supernet.model for own in setup.networks])
    batch = next(iter(setup.loader()))
    module = TrainingModule(setup)
    module.take_step(batch, 0)
    images = batch[0]
    moved = setup.networks[0].supernet.model
    logits = start[1].train()(images)
    expected = distillation_loss(logits, moved.train()(images))
    torch.testing.assert_close(module.last_losses["kl_2_1"], expected.detach())
    before = distillation_loss(logits, start[0].train()(images))
    assert not torch.allclose(before, expected)


def test_a_batch_in_pieces_has_the_gradient_of_the_whole_for_peers():
    """Without BN, whose statistics are those of a micro-batch."""
    plain = "{name: tests.plain_net:plain_net, heads: tests.plain_net:plain_heads}"
    gradients = []
    for accumulate in (1, 3):
        setup = set_up_training(
            pair(
                DCM,
                f"model={plain}",
                f"peers=[{{model: {plain}}}]",
                f"optimizer.accumulate={accumulate}",
                "teaching.head_names=[inner]",
            )
        )
        module = TrainingModule(setup)
        module.take_step(next(iter(setup.loader())), 0)
        gradients.append([p.grad for p in module.networks.parameters()])
    for whole, cut in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, cut, rtol=1e-3, atol=1e-6)


def test_each_backbone_can_have_its_own_schedule():
    base = pair(DCM)
    own = replace(
        base.optimizer, lr=0.01, schedule="step", milestones=(1,), momentum=0.5, nesterov=False
    )
    recipe = replace(base, peers=(replace(base.peers[0], optimizer=own),))
    setup = set_up_training(recipe)
    module = TrainingModule(setup)
    steps = setup.batches.steps_per_epoch
    rates = {}
    for step in (0, steps):
        module._set_learning_rates(step)
        (optimizer,) = module.torch_optimizers
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
        setup = set_up_training(pair(DCM, *step, f"optimizer.reset_momentum={reset}"))
        module = TrainingModule(setup)
        module.take_step(next(iter(setup.loader())), 0)
        assert len(module.torch_optimizers[0].state) == len(list(module.networks.parameters()))
        module._set_learning_rates(setup.batches.steps_per_epoch)
        assert bool(module.torch_optimizers[0].state) == (reset == "false")


def test_a_peer_whose_loss_runs_away_is_named(caplog):
    setup = set_up_training(pair("teaching.method=dml"))
    module, watch = TrainingModule(setup), CapacityGap(every=1)
    for step in range(30):
        module.done = step + 1
        losses = (2.0, 2.1) if step < 10 else (0.5, 2.0)
        module.last_losses = {f"ce_{n + 1}": torch.tensor(v) for n, v in enumerate(losses)}
        watch.on_train_batch_end(None, module)
        if step < 10:
            assert not caplog.text
    assert caplog.text.count("the loss of network 2 is") == 1
    assert "that of network 1 only" in caplog.text


def test_a_network_whose_loss_is_not_finite_stops_all_before_any_moves():
    setup = set_up_training(pair("teaching.optimizers=each"))
    module, batch = TrainingModule(setup), next(iter(setup.loader()))
    first, second = (own.supernet.model for own in setup.networks)
    with torch.no_grad():
        second.head.bias.fill_(float("inf"))
    before = first.stem.weight.detach().clone()
    with pytest.raises(TrainingDivergedError, match="1x12 of network 2 is nan at step 1"):
        module.take_step(batch, 0)
    assert torch.equal(first.stem.weight, before)


def test_in_turn_the_error_says_which_networks_had_theirs():
    setup = set_up_training(pair("teaching.method=dml", "teaching.update=alternating"))
    module = TrainingModule(setup)
    weights = [own.supernet.model.stem.weight for own in setup.networks]
    before = [weight.detach().clone() for weight in weights]
    weights[1].register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingDivergedError, match="was not updated by it, those before it were"):
        module.take_step(next(iter(setup.loader())), 0)
    assert [torch.equal(*pair) for pair in zip(weights, before, strict=True)] == [False, True]


def test_averaged_networks_end_with_averaged_heads():
    setup = set_up_training(pair(DCM, "optimizer.ema_decay=0.5"))
    module = TrainingModule(setup)
    weights = [own.heads["C2"][-1].weight for own in setup.networks]
    seen = []
    for step, batch in zip(range(2), setup.loader(), strict=False):
        module.take_step(batch, step)
        seen.append([weight.detach().clone() for weight in weights])
    module.finish()
    for number, weight in enumerate(weights):
        torch.testing.assert_close(weight, (seen[0][number] + seen[1][number]) / 2)


def test_supernets_that_learn_in_turn_move_with_their_narrower_networks():
    """Every network's step has its narrower ones' gradients; the next sees its new predictions."""
    setup = set_up_training(
        pair("teaching.method=dml", "teaching.update=alternating", *SUPERNETS, "optimizer.lr=0.05")
    )
    recipe, batch = setup.recipe, next(iter(setup.loader()))
    subnets = recipe.method.value.draw(recipe.space, generator(recipe.seed, Purpose.DRAW, 0))
    twins = copy.deepcopy([own.supernet for own in setup.networks])
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
    TrainingModule(setup).take_step(batch, 0)
    for own, twin in zip(setup.networks, twins, strict=True):
        pairs = zip(own.supernet.parameters(), twin.parameters(), strict=True)
        for mine, slow in pairs:
            torch.testing.assert_close(mine, slow, rtol=1e-3, atol=1e-5)


def test_narrow_networks_are_peers_where_no_heads_are_asked_for():
    space = "space={width_range: [0.5, 0.5], resolutions: [12], model_width_mult: 1.0}"
    setup = set_up_training(pair("teaching.method=dml", space))
    twins = [
        own.supernet.extract(setup.recipe.space.largest, uncalibrated=True)
        for own in setup.networks
    ]
    batch = next(iter(setup.loader()))
    peer_step([twin.train() for twin in twins], batch, setup.recipe.graph, task=Classification())
    module = TrainingModule(setup)
    module.torch_optimizers[0].step = lambda *_: None
    module.take_step(batch, 0)
    for own, twin in zip(setup.networks, twins, strict=True):
        full = dict(own.supernet.model.named_parameters())
        for name, parameter in twin.named_parameters():
            block = full[name].grad[tuple(slice(size) for size in parameter.shape)]
            torch.testing.assert_close(block, parameter.grad, rtol=1e-4, atol=1e-6)
            assert int(full[name].grad.count_nonzero()) <= parameter.numel()
