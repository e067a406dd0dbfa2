"""Networks that are updated in turn see each other's new predictions."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from mutualnet.peers import peer_step, peer_step_in_turn
from mutualnet.teaching import (
    dks,
    dml,
    independent,
)
from tests.tiny_peers import (
    HEADS,
    TASK,
    Tiny,
    tiny_batch,
    tiny_networks,
    written_kl,
)


def _alternate_slowly(models, batch, rate):
    """Algorithm 1 of deep mutual learning: predict, update one, predict again, update the next."""
    images, labels = batch
    predictions = [model(images).detach() for model in models]
    for number, model in enumerate(models):
        model.zero_grad()
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        for other, teacher in enumerate(predictions):
            if other != number:
                loss = loss + written_kl(teacher, logits) / (len(models) - 1)
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
        predictions[number] = model(images).detach()


@pytest.mark.parametrize("count", [2, 3])
def test_alternating_updates_are_the_papers_algorithm(count):
    models, _ = tiny_networks(count)
    twins = copy.deepcopy(models)
    seen = []
    optimizers = [torch.optim.SGD(model.parameters(), 0.3) for model in models]

    for _ in range(2):
        for number, result in peer_step_in_turn(models, tiny_batch(), dml(count), task=TASK):
            seen.append((number, sorted(map(str, result.losses))))
            optimizers[number].step()
            optimizers[number].zero_grad()
        _alternate_slowly(twins, tiny_batch(), 0.3)
    for model, twin in zip(models, twins, strict=True):
        for mine, slow in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, slow, rtol=1e-4, atol=1e-6)
    assert [number for number, _ in seen] == 2 * list(range(count))
    assert all(name.split("_")[1] == str(number + 1) for number, names in seen for name in names)


def test_alternating_updates_count_a_batch_once_in_running_statistics():
    models, _ = tiny_networks(2)
    assert len(list(peer_step_in_turn(models, tiny_batch(), dml(2), task=TASK))) == 2
    assert [int(model.early[1].num_batches_tracked) for model in models] == [1, 1]
    assert {model.early[1].momentum for model in models} == {0.1}
    twin = Tiny(0).train()
    twin(tiny_batch()[0])
    torch.testing.assert_close(models[0].early[1].running_mean, twin.early[1].running_mean)


def test_a_callers_autocast_does_not_hide_the_new_predictions():
    models, _ = tiny_networks(2)
    optimizer = torch.optim.SGD(models[0].parameters(), lr=1.0)
    images = tiny_batch()[0]
    with torch.autocast("cpu", torch.bfloat16):
        turns = peer_step_in_turn(models, tiny_batch(), dml(2), task=TASK)
        next(turns)
        optimizer.step()
        _, result = next(turns)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = models[0](images)
    torch.testing.assert_close(result.outputs[0], expected)


@pytest.mark.parametrize(
    ("graph", "runs"),
    [(independent(3), [1, 1, 1]), (dks(3, HEADS), [1, 1, 1]), (dml(3), [2, 2, 1])],
    ids=["independent", "dks", "dml"],
)
def test_in_turn_only_networks_that_others_learn_from_run_again(graph, runs):
    models, heads = tiny_networks(3)
    counts = [0, 0, 0]

    def counter(number):
        def count(*_):
            counts[number] += 1

        return count

    for number, model in enumerate(models):
        model.register_forward_hook(counter(number))
    list(peer_step_in_turn(models, tiny_batch(), graph, task=TASK, heads=heads))
    assert counts == runs


def test_a_joint_step_differs_from_one_in_turn():
    models, _ = tiny_networks(2)
    twins = copy.deepcopy(models)
    one, other = (
        [torch.optim.SGD(m.parameters(), 0.5) for m in group] for group in (models, twins)
    )
    peer_step(models, tiny_batch(), dml(2), task=TASK)
    for optimizer in one:
        optimizer.step()
    for number, _ in peer_step_in_turn(twins, tiny_batch(), dml(2), task=TASK):
        other[number].step()
    assert torch.equal(models[0].head.weight, twins[0].head.weight)
    assert not torch.equal(models[1].head.weight, twins[1].head.weight)
