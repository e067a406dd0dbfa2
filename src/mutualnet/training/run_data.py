"""The data that a finished run was trained on, found again and fed in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from mutualnet.config import Recipe, RecipeChanges
from mutualnet.data import DataSplits, LabelledImages, calibration_loader, part_loader, plain_loader
from mutualnet.distributed import current_ranks
from mutualnet.progress import WorkProgress
from mutualnet.run_directory import Run
from mutualnet.space import Subnet
from mutualnet.tabulation import TableInputs
from mutualnet.training.autotune import TableFormats
from mutualnet.training.setup import load_splits, plain_task


@dataclass(frozen=True, kw_only=True)
class RunData:
    """The splits of a run, in the batches of its recipe."""

    recipe: Recipe
    splits: DataSplits

    @property
    def batch_size(self) -> int:
        """Images of a batch, in one process."""
        return self.recipe.table.batch_size or self.recipe.data.batch_size

    def calibration(self, num_samples: int) -> DataLoader[Any]:
        """Feed train images to take BatchNorm statistics from; each process its own.

        Args:
            num_samples: Images over all processes.
        """
        ranks = current_ranks()
        return calibration_loader(
            self.splits.calibration,
            self.batch_size,
            num_samples=num_samples,
            seed=self.recipe.seed,
            num_workers=self.recipe.data.num_workers,
            rank=ranks.rank,
            num_ranks=ranks.size,
        )

    def whole(self, images: LabelledImages) -> DataLoader[Any]:
        """Feed a split once, in its own order."""
        return plain_loader(images, self.batch_size, num_workers=self.recipe.data.num_workers)

    def select_part(self, start: int, stop: int) -> DataLoader[Any]:
        """Feed a part of the select images, in an order of the seed."""
        return part_loader(
            self.splits.select,
            self.batch_size,
            start,
            stop,
            seed=self.recipe.seed,
            num_workers=self.recipe.data.num_workers,
        )

    def table_inputs(
        self,
        formats: TableFormats,
        work: WorkProgress,
        *,
        subnets: Sequence[Subnet] | None = None,
    ) -> TableInputs:
        """What a table is made from.

        Args:
            formats: What it is made in.
            work: Told how far it is.
            subnets: Rows of the table; by default the grid.
        """
        return TableInputs(
            task=plain_task(self.recipe),
            train_batches=self.calibration(self.recipe.table.num_calibration_samples),
            select_batches=self.whole(self.splits.select),
            test_batches=(
                None if self.splits.selection.kind == "test" else self.whole(self.splits.test)
            ),
            data_id=self.splits.data_id,
            subnets=subnets,
            num_calibration_samples=self.recipe.table.num_calibration_samples,
            latency_runs=self.recipe.table.latency_runs,
            scoring=formats.scoring,
            running=formats.running,
            meta={"select": self.splits.selection.to_dict()},
            work=work,
        )


def load_run_data(run: Run, folder: str | None = None) -> RunData:
    """Load the data that a run was trained on.

    Args:
        run: Whose.
        folder: Of the images, where they are elsewhere now than when it was trained.

    Raises:
        ValueError: If there are none such, or others.
    """
    recipe = RecipeChanges(data=folder).apply(run.recipe)
    splits = load_splits(recipe)
    if splits.data_id != run.info["data_id"]:
        raise ValueError(
            f"{recipe.data.place} must hold the data that {run.path} was trained on, got others: "
            "the splits differ, so that test images may have been trained on."
        )
    return RunData(recipe=recipe, splits=splits)
