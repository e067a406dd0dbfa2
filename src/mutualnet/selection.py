"""Which images choose the winners of a query table, and how that is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

_KINDS = ("held_out", "folder", "trained", "test")
_NAMES = {"trained": "train", "test": "test"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which images choose.

    Raises:
        ValueError: If there is no such kind, or a share lies outside (0, 1].
    """

    kind: Literal["held_out", "folder", "trained", "test"] = "held_out"
    """Held out of train, a folder of their own, trained on, or the test split itself."""
    share: float | None = None
    """Of the train images; None where they are not a part of train."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {self.kind!r}")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {self.share}")

    def __str__(self) -> str:
        if self.kind == "trained":
            part = "train images" if self.share is None else f"{100 * self.share:g} % of train"
            return f"{part}, which the network was trained on"
        if self.kind == "test":
            return "the test split, which then tells nothing about new images"
        return "the select split"

    @property
    def split(self) -> str:
        """Name of the split that chooses: `select`, `train` or `test`."""
        return _NAMES.get(self.kind, "select")

    @property
    def suffix(self) -> str:
        """What the score's name carries where the images flatter it: ` on train` or ` on test`."""
        return f" on {_NAMES[self.kind]}" if self.kind in _NAMES else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a table's `meta["select"]` and a run's record."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Selection:
        """What a table's `meta` or a run's record says; older ones hold images out.

        Raises:
            ValueError: If it is none that `to_dict` gives.
        """
        values = record.get("select", {})
        try:
            return cls(**values)
        except TypeError:
            raise ValueError(f"select must tell kind and share, got {values!r}") from None
