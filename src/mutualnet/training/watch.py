"""How good the largest and the smallest sub-network are while they train, at little cost."""

from __future__ import annotations

import time

import numpy as np
from lightning.pytorch.utilities.seed import isolate_rng

from mutualnet.calibration import calibrate
from mutualnet.config import Recipe
from mutualnet.data import LabelledImages, SomeImages, calibration_loader, plain_loader
from mutualnet.distributed import current_ranks
from mutualnet.evaluation import evaluate
from mutualnet.space import Subnet
from mutualnet.supernet import BankKey, Supernet, temporary_bank
from mutualnet.tasks import Score
from mutualnet.training.history import SubnetScore, Validation
from mutualnet.training.module import TrainingModule
from mutualnet.training.setup import TrainingSetup, plain_task


def is_due(recipe: Recipe, epoch: int) -> bool:
    """Whether the networks are scored at the end of an epoch, the last one aside."""
    every = recipe.watch.every_epochs
    return every > 0 and epoch % every == 0


def watch(module: TrainingModule) -> None:
    """Score each network's largest and smallest sub-network at the end of an epoch.

    The scores go to the module's history. Weights, train or eval mode, BN banks and every stream of
    random numbers stay as they are. Of several processes all must call it; each does a part, and
    all get the scores.

    Of a moving average the averaged weights are scored. A network with but one sub-network, the
    full one, is scored by its own running statistics, as it is used; others get BN statistics from
    a few training images, which are discarded.

    Args:
        module: Whose epoch has just ended.
    """
    try:
        module.history.add_validation(_validate(module))
    except Exception as error:
        error.add_note("The networks were being scored; watch.every_epochs=0 trains without.")
        raise


def _validate(module: TrainingModule) -> Validation:
    setup, supernets = module.training_setup, module.shipped()
    began = time.perf_counter()
    split, images = setup.data.selection.split, setup.data.select
    scores: list[SubnetScore] = []
    num_calibrated = 0
    with isolate_rng():
        for index, supernet in enumerate(supernets):
            roles = _roles(supernet)
            found, count = _score(setup, supernet, list(roles.values()), images)
            num_calibrated = max(num_calibrated, count)  # one without BN layers needs none
            scores += [
                SubnetScore(
                    network=index,
                    role=role,
                    subnet=str(subnet),
                    value=found[subnet].value,
                    standard_error=found[subnet].standard_error,
                )
                for role, subnet in roles.items()
            ]
            num_images = found[supernet.space.largest].num_samples
    return Validation(
        epoch=module.epoch_of(module.done),
        split=split,
        score_name=setup.task.score_name,
        input_kind=setup.task.input_kind,
        num_images=num_images,
        num_available=len(images),
        num_calibration_samples=num_calibrated,
        seconds=time.perf_counter() - began,
        scores=tuple(scores),
    )


def _roles(supernet: Supernet) -> dict[str, Subnet]:
    """The ends of a space, which may be one."""
    roles: dict[BankKey, tuple[str, Subnet]] = {}
    for role in ("largest", "smallest"):
        subnet = getattr(supernet.space, role)
        roles.setdefault(supernet.key(subnet), (role, subnet))
    return dict(roles.values())


def _score(
    setup: TrainingSetup, supernet: Supernet, subnets: list[Subnet], images: LabelledImages
) -> tuple[dict[Subnet, Score], int]:
    """Scores, and the number of training images behind the BN statistics."""
    recipe, ranks = setup.recipe, current_ranks()
    task, workers = plain_task(recipe), recipe.data.num_workers
    # What a step runs at once fits into memory.
    size = max(2, recipe.data.batch_size // ranks.size // recipe.optimizer.accumulate)
    with temporary_bank(supernet) as bank:
        if len(subnets) > 1 or not supernet.is_full(subnets[0]):
            num_samples = min(recipe.watch.num_calibration_samples, len(setup.data.calibration))
            loader = calibration_loader(
                setup.data.calibration,
                min(size, num_samples),
                num_samples=num_samples,
                seed=recipe.seed,
                num_workers=workers,
                rank=ranks.rank,
                num_ranks=ranks.size,
            )
            calibrate(
                supernet,
                loader,
                subnets,
                task=task,
                data_id=setup.data.data_id,
                num_samples=num_samples,
            )
        batches = plain_loader(_some_of(images, recipe.watch.num_images), size, num_workers=workers)
        scores = evaluate(supernet, batches, subnets, task=task)
        return scores, max((s.num_samples for s in bank.values()), default=0)


def _some_of(images: LabelledImages, count: int) -> LabelledImages:
    """At most so many images, evenly spaced: of every class, where classes follow each other."""
    if len(images) <= count:
        return images
    return SomeImages(images, np.linspace(0, len(images) - 1, count).round().astype(int))


def describe_watch(module: TrainingModule) -> str:
    """The latest scores for people: on which images, how often, and what share of time it takes."""
    validation = module.history.validation
    if validation is None:
        raise ValueError("a run must have been watched to describe its scores, got none yet")
    parts = []
    for score in validation.scores:
        name = f"network {score.network + 1} " if len(module.networks) > 1 else ""
        parts.append(
            f"{name}{score.role} {score.subnet} {score.value:.2f} ± {score.standard_error:.2f}"
        )
    norms = (
        f"BN statistics of {validation.num_calibration_samples} train {validation.input_kind}s"
        if validation.num_calibration_samples
        else "running BN statistics"
    )
    return (
        f"scores after epoch {validation.epoch}: {validation.split} {validation.score_name} "
        f"{', '.join(parts)} "
        f"({validation.num_images} of {validation.num_available} {validation.input_kind}s, "
        f"{norms}; every "
        f"{module.recipe.watch.every_epochs} epochs, "
        f"{100 * module.history.watch_share():.1f} % of the training time)"
    )
