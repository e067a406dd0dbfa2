"""The rows of a run's history as files: CSV, and TensorBoard's."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from mutualnet.training.history import History

CSV = "metrics.csv"


def read_epoch_log(folder: Path) -> list[dict[str, float]]:
    """Rows of the epochs that a folder's `metrics.csv` has, the first one first.

    Values that a row lacks are left out of it. A folder without the file has no rows.

    Raises:
        ValueError: If the file is damaged.
    """
    path = folder / CSV
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                {name: float(value) for name, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
    except (csv.Error, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be rows of numbers ({error}). Remove it.") from None


class EpochLog:
    """Keeps `metrics.csv` and TensorBoard's events of a run as its history is.

    A resumed run continues the same files: what an interrupted one wrote after the checkpoint that
    it is resumed from is taken back.

    Args:
        folder: Made if it is not there.
        history: Of the run.
        start: Steps that were done before.
    """

    def __init__(self, folder: Path, history: History, *, start: int = 0) -> None:
        self._history = history
        self._csv = folder / CSV
        self._events = SummaryWriter(str(folder), purge_step=start + 1)
        self._known: dict[str, float] = {}
        self._write_csv()

    def __enter__(self) -> EpochLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._events.close()

    def write(self) -> None:
        """Bring the files to the history's last row, which may have gained columns."""
        row = self._history.rows[-1]
        before = self._known if self._known.get("step") == row["step"] else {}
        for name in row.keys() - before.keys() - {"step"}:
            self._events.add_scalar(name, row[name], global_step=int(row["step"]))
        self._events.flush()
        self._known = dict(row)
        self._write_csv()

    def _write_csv(self) -> None:
        """All rows: a few hundred, with columns that may be new."""
        rows = self._history.rows
        names = dict.fromkeys(name for row in rows for name in row)
        partial = self._csv.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self._csv)
