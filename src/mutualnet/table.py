"""The query table: what every sub-network scores and costs, and the best one within a budget."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from mutualnet.budget import Budget
from mutualnet.numbers import check_countable
from mutualnet.selection import Selection
from mutualnet.space import Subnet

FORMAT_VERSION = 2
"""Version of the stored table; raised when an older reader would misread it. Since 2 a table may
hold rows that were dropped early; tables of version 1 hold none and are read as they are."""

_READABLE = (1, FORMAT_VERSION)

TEST = "test"
"""Name of the split that chooses nothing."""
_FORMAT = "mutualnet.query_table"
_SUBNET_FIELDS = (
    "width_mult",
    "resolution",
    "num_frames",
    "depth_mult",
    "group_widths",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one sub-network scores and costs.

    Raises:
        ValueError: If a number is not finite or out of range.
        TypeError: If something that must be a number is not.
    """

    subnet: Subnet
    score: float
    """On the images that choose, which `meta["select"]` names; higher is better. For
    classification top-1 accuracy in %."""
    standard_error: float
    """Of the score, in its unit."""
    num_samples: int
    """Samples behind the score."""
    macs: int
    """Multiply-adds of one input."""
    params: int
    latency_ms: float | None = None
    """Median time of one batch, or None if it was not measured."""
    test_score: float | None = None
    """On the test split, which chooses nothing."""
    test_standard_error: float | None = None
    dominated: bool = False
    """Whether another row scores at least as well for no more MACs, and better in one of them; a
    dropped row counts as dominated."""
    dropped_for: Subnet | None = None
    """None for a finished row. Otherwise a sub-network that stands in for this one: it has no more
    MACs, and scored no worse on the `num_samples` images after which this one was dropped, but for
    the tolerance of the race."""
    found_by: str | None = None
    """Method of the search that found it, or `hand`; None for rows of the grid."""

    def __post_init__(self) -> None:
        if not isinstance(self.subnet, Subnet):
            raise TypeError(f"subnet must be a Subnet, got {self.subnet!r}")
        for name in ("num_samples", "macs", "params"):
            _check_number(name, getattr(self, name), whole=True)
        for name in ("score", "standard_error"):
            _check_number(name, getattr(self, name))
        for name in ("latency_ms", "test_score", "test_standard_error"):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name))
        for name in ("num_samples", "macs", "latency_ms"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be > 0, got {value} for {self.subnet}")
        for name in ("standard_error", "params", "test_standard_error"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must be >= 0, got {value} for {self.subnet}")
        if self.dropped_for is not None and not isinstance(self.dropped_for, Subnet):
            raise TypeError(f"dropped_for must be a Subnet or None, got {self.dropped_for!r}")
        if self.found_by is not None and not isinstance(self.found_by, str):
            raise TypeError(f"found_by must be a text or None, got {self.found_by!r}")
        if not isinstance(self.dominated, bool):
            raise TypeError(f"dominated must be true or false, got {self.dominated!r}")

    @property
    def is_finished(self) -> bool:
        """Whether its score is final, so that it may be chosen."""
        return self.dropped_for is None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        dropped_for = None if self.dropped_for is None else self.dropped_for.to_dict()
        if self.found_by is None:  # older versions read tables without finds still
            del values["found_by"]
        return values | {"subnet": self.subnet.to_dict(), "dropped_for": dropped_for}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        """Read back what `to_dict` wrote.

        Raises:
            ValueError: If a field is missing, unknown or out of range.
            TypeError: If a field is of another type.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"a row must be an object, got {values!r}")
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"a row has no field {unknown[0]!r}")
        for f in fields(cls):
            if f.default is MISSING and f.name not in values:
                raise ValueError(f"a row needs the field {f.name!r}")
        read = dict(values)
        for name in ("subnet", "dropped_for"):
            if name == "dropped_for" and read.get(name) is None:
                continue
            if not isinstance(read[name], Mapping):
                raise TypeError(f"{name} must be an object, got {read[name]!r}")
            read[name] = Subnet.from_dict(read[name])
        return cls(**read)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitScore:
    """A score with the split that it was measured on."""

    value: float
    standard_error: float | None
    """In the unit of the value."""
    split: str
    """Name of the split."""

    def __str__(self) -> str:
        return f"{self.value:.1f} on {self.split}"


@dataclass(frozen=True, slots=True)
class QueryTable:
    """All rows of one trained network, and where they were measured. Make it with `from_rows`."""

    rows: tuple[Row, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    """Score name, device, threads, batch, dtype, versions, data: plain values, for the reader.
    `select` tells which images choose, as `Selection.to_dict` has it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))
        if not self.rows:
            raise ValueError("a query table needs at least one row, got none")
        seen: set[Subnet] = set()
        for row in self.rows:
            if row.subnet in seen:
                raise ValueError(f"a query table has one row per sub-network, got two {row.subnet}")
            seen.add(row.subnet)
        if not self.finished:
            raise ValueError("a query table needs at least one finished row, got dropped ones only")
        try:
            # A round trip keeps the table equal to what is stored and apart from the caller's dict.
            plain = json.loads(json.dumps(self.meta, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"meta must hold plain finite JSON values: {error}") from None
        object.__setattr__(self, "meta", plain)

    @classmethod
    def from_rows(cls, rows: Iterable[Row], meta: Mapping[str, Any] | None = None) -> QueryTable:
        """Make a table and mark its dominated rows.

        Raises:
            ValueError: If there is no row, or a sub-network comes twice.
        """
        rows = tuple(rows)
        front = {row.subnet for row in _front(_finished(rows), "macs")}
        marked = tuple(replace(row, dominated=row.subnet not in front) for row in rows)
        return cls(marked, dict(meta or {}))

    @property
    def finished(self) -> tuple[Row, ...]:
        """Rows with a final score: all of them, but for those that a race dropped."""
        return _finished(self.rows)

    def row(self, subnet: Subnet) -> Row:
        """Find the finished row of one sub-network.

        Raises:
            ValueError: If it is not in the table, or was dropped; the text says why.
        """
        found = {row.subnet: row for row in self.rows}.get(subnet)
        if found is None:
            raise ValueError(
                f"the table must have a row for {subnet}, got {len(self.rows)} others. It holds "
                "the grid of the space; calibrate and score others by themselves."
            )
        if not found.is_finished:
            raise ValueError(
                f"{subnet} was dropped while the table was made: after {found.num_samples} images "
                f"it scored {found.score:.1f}, and {found.dropped_for}, which has no more "
                "multiply-adds, as much or nearly. To finish every row, make the table with --full."
            )
        return found

    @property
    def score_name(self) -> str:
        """What the score is, with its unit."""
        return str(self.meta.get("score_name", "score"))

    @property
    def select_split(self) -> str:
        """Name of the split whose scores choose."""
        return Selection.of(self.meta).split

    def scores(self, row: Row) -> tuple[SplitScore, ...]:
        """All scores of a row, the one to quote first: that of the test split where there is one.

        The score that chose a row is the highest of many, and therefore too high.
        """
        chose = SplitScore(
            value=row.score, standard_error=row.standard_error, split=self.select_split
        )
        if row.test_score is None or self.select_split == TEST:
            return (chose,)
        error = row.test_standard_error
        return SplitScore(value=row.test_score, standard_error=error, split=TEST), chose

    @property
    def top(self) -> Row:
        """The row with the highest score of all; of equals the cheapest."""
        return min(self.finished, key=_preference)

    def front(self, cost: Literal["macs", "latency_ms"] = "macs") -> tuple[Row, ...]:
        """Finished rows that no other row dominates, the cheapest first.

        A row is dominated if another scores at least as well at no more cost and is better in one
        of the two; of equal rows all stay.

        Raises:
            ValueError: If `cost` is unknown, or a row has no latency when it is asked for.
        """
        if cost not in ("macs", "latency_ms"):
            raise ValueError(f"cost must be 'macs' or 'latency_ms', got {cost!r}")
        if cost == "latency_ms":
            self._check_latencies()
        return _front(self.finished, cost)

    def best(
        self,
        *,
        macs: float | None = None,
        latency_ms: float | None = None,
        params: float | None = None,
    ) -> Row:
        """Find the finished row with the highest score within all budgets; of equals the cheapest.

        A race drops rows that another stands in for at any budget of MACs alone, and another at any
        of latency alone; within both at once one of them may be better than what is found.

        Args:
            macs: Most multiply-adds of one input.
            latency_ms: Highest median latency, on the machine the table was measured on.
            params: Most parameters.

        Raises:
            ValueError: If no budget is given, one is not positive, no row meets them, a row has no
                latency when it is asked for, or rows were dropped and parameters are asked for.
        """
        given = {"macs": macs, "latency_ms": latency_ms, "params": params}
        budgets = {name: value for name, value in given.items() if value is not None}
        if not budgets:
            raise ValueError("best needs a budget: macs, latency_ms or params")
        for name, most in budgets.items():
            if not isinstance(most, Real):
                raise ValueError(
                    f"{name} must be a number, got {most!r}. mutualnet.budget.parse_budget reads "
                    "text such as 150M or 8ms."
                )
            if not most > 0:  # refuses NaN too
                raise ValueError(f"{name} must be > 0, got {most}")
        if latency_ms is not None:
            self._check_latencies()
        num_dropped = len(self.rows) - len(self.finished)
        if num_dropped and params is not None:
            raise ValueError(
                "a budget of params needs a table with every row finished, got "
                f"{num_dropped} rows dropped, which others stand in for within any budget of macs "
                "or latency_ms. Make the table with --full."
            )
        budget = Budget(macs=macs, latency_ms=latency_ms)
        fitting = [
            row
            for row in self.finished
            if budget.fits(row.macs, row.latency_ms) and (params is None or row.params <= params)
        ]
        if not fitting:
            asked = " and ".join(f"{name} <= {value:,.12g}" for name, value in budgets.items())
            cheapest = {
                name: min(self.finished, key=lambda row: getattr(row, name)) for name in budgets
            }
            named = ", ".join(
                f"{row.subnet} with {name} {getattr(row, name):,.12g}"
                for name, row in cheapest.items()
            )
            full = ". Dropped rows may: make the table with --full" if num_dropped else ""
            raise ValueError(f"no sub-network has {asked}; the cheapest is {named}{full}")
        return min(fitting, key=_preference)

    def to_json(self) -> str:
        """The whole table as JSON text."""
        content = {
            "format": _FORMAT,
            "format_version": FORMAT_VERSION,
            "meta": self.meta,
            "rows": [row.to_dict() for row in self.rows],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> QueryTable:
        """Read back what `to_json` wrote. Dominated rows are marked anew.

        Raises:
            ValueError: If the text is not a whole query table of a version this one can read.
        """
        try:
            content = json.loads(text, parse_constant=_read_finite, parse_float=_read_finite)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a whole query table: {error}") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f"not a query table: it must be a JSON object of format {_FORMAT!r}")
        if content.get("format_version") not in _READABLE:
            readable = " or ".join(map(str, _READABLE))
            raise ValueError(
                f"format_version must be {readable}, got {content.get('format_version')!r}. "
                "The table comes from another version of mutualnet: update, or make it again."
            )
        rows, meta = content.get("rows"), content.get("meta")
        if not isinstance(rows, list) or not isinstance(meta, dict):
            raise ValueError("not a whole query table: 'rows' must be a list, 'meta' an object")
        if not isinstance(meta.get("latency", {}), dict):
            raise ValueError("not a whole query table: meta.latency must be an object")
        read = []
        for index, row in enumerate(rows):
            try:
                read.append(Row.from_dict(row))
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"not a query table: row {index}: {error}") from None
        return cls.from_rows(read, meta)

    def save(self, path: Path | str) -> None:
        """Write the table as JSON. The file is replaced when the new one is whole."""
        path = Path(path)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            partial.write_text(self.to_json(), encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str) -> QueryTable:
        """Read a table from a file that `save` wrote. Nothing in the file is executed.

        Raises:
            ValueError: If the file is truncated, foreign, or of a version this one cannot read.
            OSError: If there is no file, or it cannot be read.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            raise ValueError(f"{path}: not a query table: it must be UTF-8 text") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def to_csv(self) -> str:
        """One line per row, the sub-network's fields first; empty where there is no value."""
        measured = [f.name for f in fields(Row) if f.name != "subnet"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        # A column that only artifacts fill.
        has_precision = any(row.subnet.precision is not None for row in self.rows)
        names = (*_SUBNET_FIELDS, *(["precision"] if has_precision else []))
        writer.writerow([*names, *measured, "score_split"])
        for row in self.rows:
            subnet = row.subnet.to_dict()
            if "group_widths" in subnet:
                subnet["group_widths"] = json.dumps(subnet["group_widths"])
            writer.writerow(
                [subnet.get(name) for name in names]
                + [getattr(row, name) for name in measured]
                + [self.select_split]
            )
        return text.getvalue()

    def _check_latencies(self) -> None:
        rows = self.finished
        missing = [row for row in rows if row.latency_ms is None]
        if missing:
            raise ValueError(
                f"latency_ms must be measured for every row, {len(missing)} of {len(rows)} "
                f"have none, the first is {missing[0].subnet}. Make the table with latencies."
            )


def _finished(rows: Iterable[Row]) -> tuple[Row, ...]:
    return tuple(row for row in rows if row.is_finished)


def _front(rows: Iterable[Row], cost: str) -> tuple[Row, ...]:
    """Sweep from cheap to dear, at equal cost from high to low score; keep what sets a record."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (getattr(row, cost), -row.score)):
        if not front or row.score > front[-1].score or _equal(row, front[-1], cost):
            front.append(row)
    return tuple(front)


def _equal(a: Row, b: Row, cost: str) -> bool:
    return a.score == b.score and getattr(a, cost) == getattr(b, cost)


def _preference(row: Row) -> tuple[float, ...]:
    latency_ms = math.inf if row.latency_ms is None else row.latency_ms
    return (-row.score, row.macs, latency_ms, row.params)


def _check_number(name: str, value: object, *, whole: bool = False) -> None:
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{name} must be a {'whole ' if whole else ''}number, got {value!r}")
    check_countable(name, value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def _read_finite(text: str) -> float:
    """Read a number of a JSON file; Python's own reader takes NaN, Infinity and 1e999 as well."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
