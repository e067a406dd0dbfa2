"""Whether a training ended with networks that learned, or with numbers gone wild."""

from __future__ import annotations

import torch
from torch import Tensor

from mutualnet.training.module import TrainingDivergedError, TrainingModule
from mutualnet.training.setup import TrainingSetup

_FAR = 10.0
"""Times the loss of uniform guessing. Losses of networks that learn, noisy ones too, stay below."""
_WAY_OUT = (
    "Lower optimizer.lr, add warm-up (optimizer.warmup_epochs), or limit the gradient "
    "(optimizer.clip_norm)."
)


def check_learned(module: TrainingModule) -> None:
    """Refuse the end of a training that diverged while all of its losses were finite.

    Raises:
        TrainingDivergedError: If a weight is not finite, or the loss on labels of the last step is
            ten times that of guessing all classes alike. Tasks of users have no such bound.
    """
    for index, network in enumerate(module.networks):
        for name, value in network.state_dict().items():
            if not bool(value.isfinite().all()):
                raise TrainingDivergedError(
                    f"{name} of network {index + 1} holds values that are not finite after step "
                    f"{module.done}. {_WAY_OUT}"
                )
    if ":" in module.recipe.task:
        return
    bound = _FAR * float(_loss_of_guessing(module.training_setup))
    for name, loss in module.last_losses.items():
        if name.startswith("ce_") and float(loss) > bound:
            raise TrainingDivergedError(
                f"training diverged: the loss {name} is {float(loss):.3g} at its last step "
                f"{module.done}, guessing has {bound / _FAR:.3g}. {_WAY_OUT}"
            )


def _loss_of_guessing(setup: TrainingSetup) -> Tensor:
    labels = torch.as_tensor(setup.data.train.labels)
    return setup.task.supervised_loss(
        torch.zeros(len(labels), setup.data.num_classes), (None, labels)
    )
