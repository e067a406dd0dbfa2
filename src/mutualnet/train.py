"""Training by a recipe: Lightning around the mutual step."""

from __future__ import annotations

import logging
import math
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import timm
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mutualnet.config import OptimizerConfig, Recipe
from mutualnet.data import DataSplits, load_data
from mutualnet.host import peak_memory_mib
from mutualnet.models import create_model
from mutualnet.probe import Format, choose_format
from mutualnet.runs import new_run, save_run
from mutualnet.sandwich import Member, sandwich_step
from mutualnet.supernet import Supernet
from mutualnet.tasks.classification import Classification

__all__ = ["DryRun", "TrainingDivergedError", "dry_run", "make_loader", "parameter_groups", "train"]

logger = logging.getLogger(__name__)


class TrainingDivergedError(RuntimeError):
    """A loss is not a finite number any more."""


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Split a model's parameters by weight decay.

    Source: the MutualNet and US-Net recipes: none for BN, biases and depthwise convolutions
        (weights of four dimensions with one input channel).
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for parameter in model.parameters():
        is_depthwise = parameter.dim() == 4 and parameter.shape[1] == 1
        is_spared = not config.decay_all and (parameter.dim() < 2 or is_depthwise)
        (spared if is_spared else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def learning_rate_factor(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Share of the highest rate at a step: a linear warm-up, then half a cosine to zero."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class SandwichModule(L.LightningModule):
    """The mutual step as Lightning wants it."""

    def __init__(
        self, supernet: Supernet, recipe: Recipe, form: Format, *, steps_per_epoch: int
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.supernet = supernet
        self.recipe = recipe
        self.form = form
        self.steps_per_epoch = steps_per_epoch
        self.task = Classification(label_smoothing=recipe.label_smoothing)
        self.rule = recipe.method.rule
        self.rng = np.random.default_rng([recipe.seed, 1])
        self.last_losses: dict[str, Tensor] = {}

    def configure_optimizers(self) -> Any:
        """SGD and its rate, step by step."""
        config = self.recipe.optimizer
        optimizer = torch.optim.SGD(
            parameter_groups(self.supernet.model, config),
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
        )
        warmup_steps = round(config.warmup_epochs * self.steps_per_epoch)
        total_steps = config.epochs * self.steps_per_epoch
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(
                step, warmup_steps=warmup_steps, total_steps=total_steps
            ),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler}}

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Run one draw of sub-networks and step the optimizer."""
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        images, labels = batch
        images = images.contiguous(memory_format=self.form.layout)
        optimizer.zero_grad()  # type: ignore[union-attr]
        members = sandwich_step(
            self.supernet,
            (images, labels),
            self.rule.draw(self.recipe.space, self.rng),
            task=self.task,
            distill=self.recipe.method.distill,
            autocast=self.form.autocast,
        )
        self._check_finite(members)
        optimizer.step()  # type: ignore[union-attr]
        scheduler.step()  # type: ignore[union-attr,call-arg]
        self.last_losses = self._names(members)
        self.log_dict(self.last_losses, prog_bar=True, on_step=True, on_epoch=False)
        self.log("lr", scheduler.get_last_lr()[0], on_step=True)  # type: ignore[union-attr]

    def _names(self, members: tuple[Member, ...]) -> dict[str, Tensor]:
        """Losses by the part each sub-network plays; `ce` on labels, `kl` on the largest."""
        parts = ["largest", *(f"random{i + 1}" for i in range(len(members) - 1))]
        if self.rule.include_smallest and len(members) > 1:
            parts[-1] = "smallest"
        kinds = {"labels": "ce", "largest": "kl"}
        return {f"{kinds[m.target]}_{part}": m.loss for part, m in zip(parts, members, strict=True)}

    def _check_finite(self, members: tuple[Member, ...]) -> None:
        losses = torch.stack([member.loss for member in members])
        if bool(losses.isfinite().all()):
            return
        bad = next(m for m in members if not bool(m.loss.isfinite()))
        raise TrainingDivergedError(
            f"the loss of sub-network {bad.subnet} is {float(bad.loss)} at step "
            f"{self.global_step + 1}. The weights were not updated by it. Lower optimizer.lr, add "
            "warm-up (optimizer.warmup_epochs), or train in fp32 (precision.precision=fp32)."
        )


class EpochLines(Callback):
    """One line in the log per epoch, for those who watch a file and not a terminal."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how far it is and what the last losses were."""
        assert isinstance(pl_module, SandwichModule)
        losses = ", ".join(f"{n} {float(v):.3f}" for n, v in pl_module.last_losses.items())
        logger.info(
            "epoch %d of %d in %.1f s: %s",
            trainer.current_epoch + 1,
            trainer.max_epochs or 0,
            time.perf_counter() - self._start,
            losses,
        )


def make_loader(data: Any, recipe: Recipe, *, shuffle: bool, purpose: int) -> DataLoader[Any]:
    """Feed one split.

    Args:
        data: The split.
        recipe: Batch size, workers, seed.
        shuffle: Whether each epoch has its own order, which the seed decides.
        purpose: Loaders of other purposes draw other random numbers.
    """
    generator = torch.Generator().manual_seed(recipe.seed * 1_000 + purpose)
    size = recipe.data.batch_size
    return DataLoader(
        data,
        batch_size=size,
        shuffle=shuffle,
        generator=generator,
        num_workers=recipe.data.num_workers,
        persistent_workers=recipe.data.num_workers > 0 and shuffle,
        drop_last=shuffle and len(data) % size == 1,  # BN cannot normalise a batch of one
        worker_init_fn=_seed_worker,
    )


def _seed_worker(_: int) -> None:
    torch.set_num_threads(1)
    np.random.seed(torch.initial_seed() % 2**32)


def load_splits(recipe: Recipe) -> DataSplits:
    """The recipe's data at the top resolution."""
    return load_data(
        recipe.data.name,
        recipe.data.path,
        resolution=recipe.space.resolutions[0],
        select_share=recipe.data.select_share,
        seed=recipe.seed,
        augment=recipe.data.augment,
    )


@dataclass
class _Prepared:
    """All that a training run needs."""

    data: DataSplits
    supernet: Supernet
    loader: DataLoader[Any]
    form: Format


def _prepare(recipe: Recipe) -> _Prepared:
    with _known_warnings():
        L.seed_everything(recipe.seed, verbose=False)
    data = load_splits(recipe)
    model = create_model(
        recipe.model.name,
        num_classes=data.num_classes,
        in_channels=data.in_channels,
        **recipe.model.kwargs,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    supernet = Supernet(model.to(device), recipe.space).train()
    side = recipe.space.resolutions[0]
    size = min(recipe.data.batch_size, len(data.train))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(size, data.in_channels, side, side, generator=generator)
    batch = noise.to(device), torch.zeros(size, dtype=torch.long, device=device)
    draw = recipe.method.rule.draw(recipe.space, np.random.default_rng(0))
    form = choose_format(supernet, batch, draw, Classification(), recipe.precision)
    supernet.model.to(memory_format=form.layout)  # type: ignore[call-overload]
    loader = make_loader(data.train, recipe, shuffle=True, purpose=0)
    return _Prepared(data, supernet, loader, form)


def train(
    recipe: Recipe, out: Path, *, limit_steps: int | None = None, progress: bool = False
) -> Path:
    """Train by a recipe and write a run directory.

    Args:
        recipe: What to train, on what, and how.
        out: Directory that the run gets when it is whole. Must not exist yet.
        limit_steps: Stop after this many steps, with the schedule shortened to fit.
        progress: Show a progress bar with the losses of every sub-network.

    Returns:
        The directory.

    Raises:
        ValueError: If `out` exists, or the recipe does not fit its data or model.
        TrainingDivergedError: If a loss is not finite. It names the sub-network and the step.
    """
    if limit_steps is not None and limit_steps < 1:
        raise ValueError(f"limit_steps must be >= 1, got {limit_steps}")
    with new_run(out, recipe) as partial:
        started = time.time()
        ready = _prepare(recipe)
        module, seconds = _fit(recipe, ready, partial, limit_steps, progress)
        model = ready.supernet.model.cpu()
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        info = {
            "recipe": recipe.name,
            "class_names": list(ready.data.class_names),
            "in_channels": ready.data.in_channels,
            "mean": list(ready.data.mean),
            "std": list(ready.data.std),
            "data_id": ready.data.data_id,
            "training_format": str(ready.form),
            "steps": module.global_step,
            "seconds": round(seconds, 1),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime()),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
            "last_losses": {name: float(loss) for name, loss in module.last_losses.items()},
            "versions": {
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "timm": timm.__version__,
                "lightning": L.__version__,
            },
        }
        save_run(partial, ready.supernet, info)
    return out


def _fit(
    recipe: Recipe, ready: _Prepared, partial: Path, limit_steps: int | None, progress: bool
) -> tuple[SandwichModule, float]:
    steps_per_epoch = len(ready.loader)
    epochs = recipe.optimizer.epochs
    if limit_steps is not None and limit_steps < epochs * steps_per_epoch:
        # The schedule ends with the run, however short it is made.
        steps_per_epoch = min(steps_per_epoch, limit_steps)
        epochs = math.ceil(limit_steps / steps_per_epoch)
    module = SandwichModule(
        ready.supernet, _with_epochs(recipe, epochs), ready.form, steps_per_epoch=steps_per_epoch
    )
    checkpoint = ModelCheckpoint(
        dirpath=partial / "checkpoints", filename="last", save_top_k=1, enable_version_counter=False
    )
    callbacks: list[Callback] = [EpochLines(), checkpoint]
    if progress:
        callbacks.append(RichProgressBar(leave=False))
    with _known_warnings():
        trainer = L.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=epochs,
            max_steps=limit_steps or -1,
            logger=[
                CSVLogger(partial, name="logs", version=""),
                TensorBoardLogger(partial, name="logs", version=""),
            ],
            callbacks=callbacks,
            enable_progress_bar=progress,
            enable_model_summary=False,
            log_every_n_steps=max(1, min(50, steps_per_epoch // 2)),
        )
        start = time.perf_counter()
        trainer.fit(module, ready.loader)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return module, time.perf_counter() - start


def _with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    config = recipe.optimizer
    warmup = min(config.warmup_epochs, float(epochs))
    return replace(recipe, optimizer=replace(config, epochs=epochs, warmup_epochs=warmup))


@contextmanager
def _known_warnings() -> Iterator[None]:
    """Keep from users what is no news to them."""
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    with warnings.catch_warnings():
        # Zero workers is right for images in memory; the recipe decides.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # One batch per epoch or a few steps are what --limit-steps asks for.
        warnings.filterwarnings("ignore", message=".*number of training batches.*")
        # The directory is fresh; "exists and is not empty" is about the log folder made before it.
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        # TensorBoard's and Lightning's own use of old names.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


_CHATTY = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a training run would take."""

    seconds_per_step: float
    num_steps: int
    seconds: float
    """To the end of training."""
    peak_memory_mib: float
    disk_mib: float
    """Weights, the last checkpoint, and the BN bank of the whole grid."""
    form: Format


def dry_run(recipe: Recipe, *, steps: int = 6) -> DryRun:
    """Take a few real steps, loading included, and tell what the whole run would take.

    Nothing is written.

    Args:
        recipe: What would be trained.
        steps: Steps to take; the first is not timed.
    """
    ready = _prepare(recipe)
    module = SandwichModule(ready.supernet, recipe, ready.form, steps_per_epoch=len(ready.loader))
    optimizer = module.configure_optimizers()["optimizer"]
    device = next(ready.supernet.parameters()).device
    times: list[float] = []
    batches = iter(ready.loader)
    for _ in range(min(steps, len(ready.loader))):
        start = time.perf_counter()
        images, labels = next(batches)
        optimizer.zero_grad()
        members = sandwich_step(
            ready.supernet,
            (images.to(device, memory_format=ready.form.layout), labels.to(device)),
            module.rule.draw(recipe.space, module.rng),
            task=module.task,
            distill=recipe.method.distill,
            autocast=ready.form.autocast,
        )
        optimizer.step()
        float(members[-1].loss)
        times.append(time.perf_counter() - start)
    seconds = float(np.mean(times[1:] or times))
    num_steps = len(ready.loader) * recipe.optimizer.epochs
    weights = sum(p.numel() * p.element_size() for p in ready.supernet.model.state_dict().values())
    norms = sum(b.numel() for n, b in ready.supernet.model.named_buffers() if "running" in n)
    on_disk = 3 * weights + 4 * norms * len(recipe.space.grid())
    is_cuda = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if is_cuda else peak_memory_mib()
    return DryRun(
        seconds_per_step=seconds,
        num_steps=num_steps,
        seconds=seconds * num_steps,
        peak_memory_mib=peak,
        disk_mib=on_disk / 2**20,
        form=ready.form,
    )
