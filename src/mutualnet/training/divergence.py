"""When training has diverged: at a step whose numbers are not finite, or at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from mutualnet.batch_checks import NonFiniteImagesError, is_finite
from mutualnet.training.setup import TrainingSetup
from mutualnet.training.step_losses import LossTerm

_FAR = 10.0
"""Times the loss of uniform guessing. Losses of networks that learn, noisy ones too, stay below."""
_WAY_OUT = (
    "Lower optimizer.lr, add warm-up (optimizer.warmup_epochs), or limit the gradient "
    "(optimizer.clip_norm)."
)


class TrainingDivergedError(RuntimeError):
    """A loss, a gradient or a weight is not a finite number any more."""


@contextmanager
def naming_step(step: int) -> Iterator[None]:
    """Let the refusal of images whose values are not finite name the step, from 0, they came in."""
    try:
        yield
    except NonFiniteImagesError as error:
        raise TrainingDivergedError(
            f"the images of step {step + 1} hold values that are not finite numbers. The "
            f"weights were not updated by it: {error}"
        ) from None


def check_finite(
    setup: TrainingSetup,
    terms: Sequence[LossTerm],
    losses: Tensor,
    norm: Tensor,
    batch: Any,
    step: int,
) -> None:
    """Refuse to update weights by losses or gradients that are not finite.

    Args:
        setup: What trains.
        terms: Losses of the networks that are about to be updated.
        losses: Their values, (number of terms).
        norm: Scalar norm of their gradients.
        batch: Whose images are looked at for the cause.
        step: From 0, for the error.

    Raises:
        TrainingDivergedError: If one is not. It names the images, the gradient or the loss.
    """
    are_finite = losses.isfinite()
    if bool(are_finite.all() & norm.isfinite()):
        return
    kept = "The weights were not updated by it."
    if setup.recipe.learns_in_turn:
        kept = f"Network {terms[0].network + 1} was not updated by it, those before it were."
    if not is_finite(setup.task.inputs(batch)):
        raise TrainingDivergedError(
            f"the images of step {step + 1} hold values that are not finite numbers. {kept} "
            "Repair the data or its transform."
        )
    if bool(are_finite.all()):
        raise TrainingDivergedError(
            f"the gradient of step {step + 1} is {float(norm)} while the losses are finite. "
            f"{kept} Lower optimizer.lr, or train in fp32."
        )
    bad = int((~are_finite).nonzero()[0])
    raise TrainingDivergedError(
        f"the loss of {terms[bad].source} is {float(losses[bad])} at step {step + 1}. {kept} "
        "Lower optimizer.lr, add warm-up (optimizer.warmup_epochs), or train in fp32 "
        "(compute.precision=fp32)."
    )


def check_learned(setup: TrainingSetup, last_epoch: Mapping[str, float], num_steps: int) -> None:
    """Refuse the end of a training that diverged while all of its losses were finite.

    Args:
        setup: What has trained.
        last_epoch: Means of the losses over the last epoch, or the part of it that was trained, by
            their names in the log; empty if no step was taken.
        num_steps: Steps taken, for the error.

    Raises:
        TrainingDivergedError: If a weight is not finite, or a loss on labels is ten times that of
            guessing all classes alike. Tasks of users have no such bound.
    """
    for index, trained in enumerate(setup.networks):
        for name, value in trained.modules.state_dict().items():
            if not bool(value.isfinite().all()):
                raise TrainingDivergedError(
                    f"{name} of network {index + 1} holds values that are not finite after step "
                    f"{num_steps}. {_WAY_OUT}"
                )
    guessing = setup.task.loss_of_guessing(setup.data.train.labels, setup.data.num_classes)
    if guessing is None:
        return
    bound = _FAR * guessing
    for name, loss in last_epoch.items():
        if name.startswith("ce_") and loss > bound:
            raise TrainingDivergedError(
                f"training diverged: the loss {name} is {loss:.3g} in its last epoch, which ended "
                f"after step {num_steps}, guessing has {guessing:.3g}. {_WAY_OUT}"
            )
