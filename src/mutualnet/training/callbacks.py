"""What happens beside the steps of a run: checkpoints, lines in the log, a bar on a terminal."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mutualnet.training.checkpoints import write_checkpoint
from mutualnet.training.epoch_log import EpochLog
from mutualnet.training.module import TrainingModule
from mutualnet.training.watch import describe_watch, is_due, watch

logger = logging.getLogger(__name__)


class CheckpointWriter(Callback):
    """Writes a checkpoint of a run to its folder every few minutes.

    Args:
        folder: Where to.
        minutes: Between two checkpoints; 0 writes one after every step.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder = folder
        self.seconds = 60 * minutes
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Write if it is time."""
        assert isinstance(pl_module, TrainingModule)
        if time.monotonic() - self._last >= self.seconds:
            write_checkpoint(self.folder, pl_module.done, pl_module.state())
            self._last = time.monotonic()


class CapacityGap(Callback):
    """Warns once when one peer's loss on labels runs away from another's.

    A network that lags far behind has little to teach, and targets far above its own capacity.

    Args:
        every: Steps between two comparisons; each waits for an accelerator.
        ratio: Of the larger loss to the smaller, both averaged over the last comparisons.
    """

    def __init__(self, every: int = 20, ratio: float = 2.0) -> None:
        self.every = every
        self.ratio = ratio
        self._averages: dict[int, float] = {}
        self._looks = 0
        self._warned = False

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Compare, and warn if it is so."""
        assert isinstance(pl_module, TrainingModule)
        if self._warned or pl_module.done % self.every:
            return
        indices = range(len(pl_module.training_setup.networks))
        losses = {n: float(pl_module.last_losses[f"ce_{n + 1}"]) for n in indices}
        for index, loss in losses.items():
            self._averages[index] = 0.8 * self._averages.get(index, loss) + 0.2 * loss
        self._looks += 1
        ranked = sorted(indices, key=self._averages.__getitem__)
        low, high = ranked[0], ranked[-1]
        least, most = self._averages[low], self._averages[high]
        if self._looks < _FIRST_LOOKS or most < self.ratio * least or most - least < _LEAST_GAP:
            return
        self._warned = True
        logger.warning(
            "the loss of network %d is %.2f, that of network %d only %.2f (step %d): networks of "
            "so different capacity teach each other little. Take nearer ones, or lower "
            "teaching.same_stage_weight and different_stage_weight.",
            high + 1,
            most,
            low + 1,
            least,
            pl_module.done,
        )


_FIRST_LOOKS = 5
"""The first steps say nothing yet."""
_LEAST_GAP = 0.3
"""Nats; near zero any two losses have a large ratio."""


class ProgressBar(Callback):
    """One live line on a terminal: epoch, steps, time left, means of the losses, latest scores."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}", markup=False),
            TextColumn("{task.fields[scores]}", markup=False),
            transient=True,
        )
        self._shown = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin where the run does."""
        assert isinstance(pl_module, TrainingModule)
        self._line = self._bar.add_task(
            "",
            total=pl_module.training_setup.batches.stop,
            completed=pl_module.done,
            epoch="",
            losses="",
            scores="",
        )
        self._bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Show a step, a few times a second."""
        assert isinstance(pl_module, TrainingModule)
        now = time.monotonic()
        if now - self._shown < 0.3:
            return
        self._shown = now
        history = pl_module.history
        self._bar.update(
            self._line,
            completed=pl_module.done,
            epoch=f"{pl_module.epoch_of(pl_module.done)}/{pl_module.num_epochs}",
            # Until the first step of the next epoch has come, those of the last one are shown.
            losses=pl_module.describe_losses(history.means() or history.rows[-1]),
            scores="" if history.validation is None else history.validation.shortly(),
        )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the terminal back."""
        self._bar.stop()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._bar.stop()


class EpochEnds(Callback):
    """Closes every epoch: its row of means, scores where they are due, a line in the log.

    Args:
        log: Where rows are written; None in all processes but the first.
    """

    def __init__(self, log: EpochLog | None) -> None:
        self._log = log

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        assert isinstance(pl_module, TrainingModule)
        pl_module.history.start_clock()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """See whether the step was an epoch's last one."""
        assert isinstance(pl_module, TrainingModule)
        module, history = pl_module, pl_module.history
        if not module.ends_epoch():
            return
        module.end_epoch()
        row = history.rows[-1]
        # What a run ends with is scored when its weights are safe.
        is_last = module.done == module.training_setup.batches.stop
        if not is_last and is_due(module.recipe, int(row["epoch"])):
            watch(module)
        if self._log is None:
            return
        self._log.write()
        rates = " ".join(f"{name} {rate:.4g}" for name, rate in row.items() if name[:2] == "lr")
        logger.info(
            "epoch %d of %d in %.1f s: %s; %s; %.4g images/s",
            row["epoch"],
            module.num_epochs,
            row["seconds"],
            module.describe_losses(row),
            rates,
            row["images_per_s"],
        )
        if history.validation is not None and history.validation.epoch == row["epoch"]:
            logger.info("%s", describe_watch(module))
