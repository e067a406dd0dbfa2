"""One step of a training run, under the settings that change it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from mutualnet.config.serialization import override
from mutualnet.tasks import Classification
from mutualnet.training.divergence import TrainingDivergedError
from mutualnet.training.module import TrainingModule
from mutualnet.training.networks import Origin
from mutualnet.training.setup import set_up_training, training_task
from tests.small_runs import digits


@pytest.fixture
def recipe():
    return digits("data.batch_size=30")


def _first_step(recipe, *settings):
    """The module after its first step, and its gradients."""
    setup = set_up_training(override(recipe, list(settings)) if settings else recipe)
    module = TrainingModule(setup)
    module.take_step(next(iter(setup.loader())), 0)
    return module, [p.grad.clone() for p in setup.networks[0].supernet.parameters()]


def test_accumulated_micro_batches_have_the_gradient_of_the_whole_batch(recipe):
    """Without BN, whose statistics are those of a micro-batch."""
    plain = replace(
        recipe,
        model=replace(recipe.model, name="tests.plain_net:plain_net", kwargs={}),
        data=replace(recipe.data, batch_size=32),
    )
    _, whole = _first_step(plain)
    _, accumulated = _first_step(plain, "optimizer.accumulate=3")
    for a, b in zip(whole, accumulated, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_the_gradient_is_clipped_as_one(recipe):
    _, free = _first_step(recipe)
    _, clipped = _first_step(recipe, "optimizer.clip_norm=0.01")
    norm = torch.stack([g.norm() for g in free]).norm()
    assert norm > 0.01
    for a, b in zip(free, clipped, strict=True):
        torch.testing.assert_close(b, a * (0.01 / norm), rtol=1e-3, atol=1e-9)


def test_parameters_that_stay_do_not_count_for_the_norm(recipe):
    setup = set_up_training(override(recipe, ["optimizer.clip_norm=0.01", "data.label_noise=0.9"]))
    supernet = setup.networks[0].supernet
    *old, weight, bias = (name for name, _ in supernet.named_parameters())
    origin = Origin(initialized_names=tuple(old), sorted_by=None)
    network = replace(setup.networks[0], origin=origin, init_lr_mult=0.0)
    module = TrainingModule(replace(setup, networks=(network,)))
    module.take_step(next(iter(setup.loader())), 0)
    moved = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    assert set(moved) == {weight, bias}
    norm = torch.nn.utils.get_total_norm(moved.values())
    torch.testing.assert_close(norm, torch.tensor(0.01), rtol=1e-3, atol=0)


def test_the_moving_average_is_the_written_out_one(recipe):
    setup = set_up_training(override(recipe, ["optimizer.ema_decay=0.9"]))
    module = TrainingModule(setup)
    weight = setup.networks[0].supernet.model.stem.weight
    expected = None
    for step, batch in zip(range(4), setup.loader(), strict=False):
        module.take_step(batch, step)
        now = weight.detach().clone()
        expected = now if expected is None else 0.9 * expected + 0.1 * now
    module.finish()
    torch.testing.assert_close(setup.networks[0].supernet.model.stem.weight, expected)


def test_a_step_is_a_function_of_its_number(recipe):
    """Whatever was drawn before, in whatever order steps are taken."""
    setup = set_up_training(
        override(recipe, ["model.kwargs={depth: 10, width_factor: 1, dropout: 0.5}"])
    )
    batch = next(iter(setup.loader()))
    start = copy.deepcopy(setup.networks[0].supernet.state_dict())
    seen = []
    for noise in (1, 2):
        setup.networks[0].supernet.load_state_dict(start)
        module = TrainingModule(setup)
        torch.manual_seed(noise)
        module.take_step(batch, 7)
        seen.append(copy.deepcopy(setup.networks[0].supernet.state_dict()))
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in start)


def test_images_that_are_not_finite_are_named_and_change_nothing(recipe):
    setup = set_up_training(recipe)
    module = TrainingModule(setup)
    images, labels = next(iter(setup.loader()))
    images[3, 0, 2, 2] = float("nan")
    before = setup.networks[0].supernet.model.stem.weight.detach().clone()
    with pytest.raises(TrainingDivergedError, match="the images of step 1 hold values that are"):
        module.take_step((images, labels), 0)
    assert torch.equal(setup.networks[0].supernet.model.stem.weight, before)


def test_rare_classes_weigh_more_in_a_balanced_loss(recipe):
    setup = set_up_training(override(recipe, ["data.balance=loss"]))
    counts = np.bincount(setup.data.train.labels)
    weights = training_task(setup.recipe, setup.data).class_weights
    assert weights == pytest.approx(tuple(counts.sum() / (10 * counts)))
    logits, labels = torch.randn(6, 10), torch.arange(6)
    found = Classification(class_weights=weights).supervised_loss(logits, (None, labels))
    each = -logits.log_softmax(1)[torch.arange(6), labels] * torch.tensor(weights[:6])
    torch.testing.assert_close(found, each.mean())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["task=guessing"], r"task must be action_recognition, classification, .* or package"),
        (["task=tests.plain_net:nothing"], "cannot be imported"),
        (["task=tests.plain_net:plain_net"], "plain_net"),
        (["model.sync_bn=true"], "sync_bn needs accelerators, got a CPU"),
        (["data.batch_size=4", "optimizer.accumulate=3"], "must have at least 6 images"),
        (["task=multilabel"], "task must be classification for data digits, got multilabel"),
        (["method.name=us_net", "data.balance=often"], "balance"),
    ],
)
def test_recipes_that_cannot_train_are_refused(recipe, settings, message):
    if torch.cuda.is_available() and "sync_bn" in message:
        pytest.skip("an accelerator is here")
    with pytest.raises((ValueError, TypeError), match=message):
        set_up_training(override(recipe, settings))


def test_what_is_tried_before_the_first_step_leaves_no_trace(recipe):
    random = torch.get_rng_state()
    model = set_up_training(recipe).networks[0].supernet.model
    torch.set_rng_state(random)
    again = set_up_training(recipe).networks[0].supernet.model
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert {int(norm.num_batches_tracked) for norm in norms} == {0}
    assert not any(norm.running_mean.any() for norm in norms)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
