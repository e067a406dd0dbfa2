"""What two processes do together, checked by each: run by torchrun, see test_distributed."""

from __future__ import annotations

import copy
import sys

import numpy as np
import torch

from mutualnet.calibration import calibrate
from mutualnet.config.serialization import override
from mutualnet.data.feeding import calibration_loader, plain_loader
from mutualnet.distributed import current_ranks, gather, process_group
from mutualnet.evaluation import evaluate, sample_scores
from mutualnet.peers import peer_step
from mutualnet.recipes import load_recipe
from mutualnet.sandwich import sandwich_step
from mutualnet.seeding import Purpose, generator
from mutualnet.training.module import TrainingModule
from mutualnet.training.setup import set_up_training
from mutualnet.training.watch import watch


def _recipe():
    settings = [
        "model.kwargs={depth: 10, width_factor: 1}",
        "space.resolutions=[12, 8]",
        "space.width_step=0.25",
        "compute.precision=fp32",
        "compute.memory_format=contiguous",
        "optimizer.epochs=2",
        "data.batch_size=50",
    ]
    return override(load_recipe("digits_demo"), settings)


def check_gradient() -> None:
    """The averaged gradient is that of one process on the joined batch, BN in eval mode."""
    setup = set_up_training(_recipe())
    supernet = setup.networks[0].supernet
    subnets = setup.recipe.method.value.draw(setup.recipe.space, generator(0, Purpose.DRAW, 0))
    loader = calibration_loader(setup.data.calibration, 50, num_samples=200, seed=0, num_workers=0)
    keys = {supernet.key(s): s for s in subnets}
    # Narrow networks need statistics to run in eval mode; these come from the whole data.
    calibrate(supernet, loader, list(keys.values()), task=setup.task, data_id="x")
    # Statistics are stale as soon as weights move, so one step is all that can be taken.
    supernet.eval()
    joined = next(iter(ready_loader(setup, 0, 1)))
    one = copy.deepcopy(supernet).eval()
    one.zero_grad()
    sandwich_step(one, joined, subnets, task=setup.task)
    module = TrainingModule(setup)
    supernet.eval()
    steps = [_NoStep(module.torch_optimizers[0])]
    module.take_step(next(iter(setup.loader())), 0, steps)
    for (name, mine), whole in zip(
        supernet.model.named_parameters(), one.model.parameters(), strict=True
    ):
        torch.testing.assert_close(
            mine.grad, whole.grad, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


class _NoStep:
    """An optimizer that keeps the weights."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def zero_grad(self):
        self.optimizer.zero_grad()

    def step(self):
        pass


def ready_loader(setup, rank, num_ranks):
    """The run's batches as another process would see them."""
    batches = copy.copy(setup.batches)
    batches.rank, batches.num_ranks = rank, num_ranks
    other = copy.copy(setup)
    other.batches = batches
    return other.loader()


def check_equal_weights() -> None:
    """After some steps with different images every process has the same weights and buffers."""
    for name, steps in (("sgd", 6), ("adamw", 3), ("lamb", 3)):
        setup = set_up_training(override(_recipe(), [f"optimizer.name={name}"]))
        supernet = setup.networks[0].supernet
        start = copy.deepcopy(supernet.model.state_dict())
        module = TrainingModule(setup)
        for step, batch in zip(range(steps), setup.loader(), strict=False):
            module.take_step(batch, step)
        state = supernet.model.state_dict()
        assert any(not torch.equal(state[name], start[name]) for name in state)
        first, second = gather(state)
        assert all(torch.equal(first[name], second[name]) for name in first)
        losses = gather({name: float(value) for name, value in module.last_losses.items()})
        assert losses[0] == losses[1]


def _pair(*settings):
    network = "name: mutualnet.models.cifar:WideResNet, kwargs: {depth: 10, width_factor: 1}"
    common = [
        f"model={{{network}, heads: wrn16_1}}",
        f"peers=[{{model: {{{network}, heads: wrn16_1}}}}]",
        "space={width_range: [1.0, 1.0], resolutions: [12]}",
        "method.name=independent",
    ]
    return override(_recipe(), [*common, *settings])


def check_gradient_of_peers() -> None:
    """All terms of DCM, averaged over processes, are those of the joined batch, BN in eval mode."""
    setup = set_up_training(_pair("teaching.method=dcm"))
    joined = next(iter(ready_loader(setup, 0, 1)))
    twins = copy.deepcopy([own.supernet.model for own in setup.networks])
    twin_heads = {n: copy.deepcopy(own.heads) for n, own in enumerate(setup.networks)}
    for part in (*twins, *twin_heads.values()):
        part.eval()
    peer_step(twins, joined, setup.recipe.graph, task=setup.task, heads=twin_heads)
    module = TrainingModule(setup)
    module.networks.eval()
    module.take_step(next(iter(setup.loader())), 0, [_NoStep(module.torch_optimizers[0])])
    for number, own in enumerate(setup.networks):
        mine = [*own.supernet.model.parameters(), *own.heads.parameters()]
        whole = [*twins[number].parameters(), *twin_heads[number].parameters()]
        for a, b in zip(mine, whole, strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def check_equal_peers() -> None:
    """Joint or in turn, networks and heads are the same in every process after some steps."""
    for settings in (
        ["teaching.method=dcm"],
        ["teaching.method=dml", "teaching.update=alternating"],
    ):
        setup = set_up_training(_pair(*settings))
        module = TrainingModule(setup)
        for step, batch in zip(range(3), setup.loader(), strict=False):
            module.take_step(batch, step)
        first, second = gather(module.networks.state_dict())
        assert all(torch.equal(first[name], second[name]) for name in first)


def check_table_parts() -> None:
    """Statistics and scores of two processes are those of one."""
    setup, ranks = set_up_training(_recipe()), current_ranks()
    subnets = setup.recipe.space.grid()

    def loader(rank, num_ranks):
        return calibration_loader(
            setup.data.calibration,
            64,
            num_samples=5 * 64,
            seed=0,
            num_workers=0,
            rank=rank,
            num_ranks=num_ranks,
        )

    supernet = setup.networks[0].supernet
    settings = {"task": setup.task, "data_id": "x", "num_samples": 5 * 64}
    calibrate(supernet, loader(ranks.rank, 2), subnets, **settings)
    shared = {key: supernet.bank[key] for key in map(supernet.key, subnets)}
    test = plain_loader(setup.data.test, 64, num_workers=0)
    scores = evaluate(supernet, test, subnets, task=setup.task)
    assert set(scores) == set(subnets)
    images = sample_scores(supernet, test, subnets, task=setup.task)
    torch.distributed.destroy_process_group()  # from here on each is alone
    calibrate(supernet, loader(0, 1), subnets, **settings)
    for key, statistics in shared.items():
        alone = supernet.bank[key]
        assert (statistics.num_samples, statistics.batch_size) == (5 * 64, 64)
        torch.testing.assert_close(statistics.mean, alone.mean)
        torch.testing.assert_close(statistics.var, alone.var)
    assert np.array_equal(images, sample_scores(supernet, test, subnets, task=setup.task))
    assert np.allclose(images.mean(1), [scores[subnet].value for subnet in subnets])
    assert {s: v.value for s, v in scores.items()} == {
        s: v.value for s, v in evaluate(supernet, test, subnets, task=setup.task).items()
    }


def check_watch() -> None:
    """Scores on the way are the same in both processes, whose networks stay as they are."""
    settings = ["watch={every_epochs: 1, num_images: 100, num_calibration_samples: 100}"]
    for recipe in (override(_recipe(), settings), override(_pair(), settings)):
        setup = set_up_training(recipe, limit_steps=1)
        module = TrainingModule(setup)
        module.take_step(next(iter(setup.loader())), 0)
        module.end_epoch()
        before = gather(module.networks.state_dict())
        watch(module)
        after = gather(module.networks.state_dict())
        assert all(torch.equal(a[n], b[n]) for a, b in zip(before, after, strict=True) for n in a)
        first, second = gather(module.history.validation)
        assert first.scores == second.scores
        assert first.num_images == 100
        assert first.num_calibration_samples in (0, 100)


def main() -> None:
    """Run every check in both processes."""
    with process_group() as ranks:
        assert ranks.size == 2
        check_gradient()
        check_equal_weights()
        check_gradient_of_peers()
        check_equal_peers()
        check_watch()
        check_table_parts()
    print(f"rank {ranks.rank} fine", file=sys.stderr)


if __name__ == "__main__":
    main()
