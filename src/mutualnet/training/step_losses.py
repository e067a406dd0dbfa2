"""The losses of one step: which there are, their sums over micro-batches, and what people read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_MOST_SHOWN = 6
"""More losses than these are summed for people."""


@dataclass(frozen=True, slots=True)
class LossTerm:
    """One loss of a step."""

    name: str
    """In the log."""
    source: str
    """What it is the loss of, for people."""
    network: int
    """Index of the network that learned from it."""


@dataclass
class StepLosses:
    """Every loss of a step, averaged over its images."""

    values: dict[LossTerm, Tensor] = field(default_factory=dict)

    def add(self, found: Iterable[tuple[LossTerm, Tensor]], weight: float) -> None:
        """Count those of a micro-batch.

        Args:
            found: Scalars, averaged over the micro-batch.
            weight: Its share of the step's images.
        """
        for term, loss in found:
            before = self.values.get(term)
            self.values[term] = loss * weight if before is None else before + loss * weight

    def of(self, networks: Sequence[int]) -> tuple[list[LossTerm], Tensor]:
        """The terms that some networks learned from, and their values (number of terms)."""
        terms = [term for term in self.values if term.network in networks]
        return terms, torch.stack([self.values[term] for term in terms])

    def replace(self, terms: Sequence[LossTerm], losses: Tensor) -> None:
        """Put other values in place of some terms', such as means over all processes."""
        self.values.update(zip(terms, losses, strict=True))


def describe_losses(
    terms: Sequence[LossTerm], losses: Mapping[str, float], num_networks: int
) -> str:
    """Losses for people; where they are many, summed over each network's of one kind.

    Args:
        terms: Of a step.
        losses: By the terms' names. Terms that are not in it are left out.
        num_networks: That train.
    """
    terms = [term for term in terms if term.name in losses]
    kept = {term.name: [term.name] for term in terms}
    if len(terms) > _MOST_SHOWN:
        kept = {}
        for term in terms:
            suffix = network_suffix(term.network, num_networks)
            kept.setdefault(f"{term.name[:2]}{suffix}", []).append(term.name)
    text = ", ".join(
        f"{name} {sum(losses[term] for term in summed):.3f}" for name, summed in kept.items()
    )
    return text if len(kept) == len(terms) else f"{text} (sums of {len(terms)} terms)"


def network_suffix(network: int, num_networks: int) -> str:
    """What tells one network's names in the log from another's: `_2`, or nothing if it is alone."""
    return "" if num_networks == 1 else f"_{network + 1}"
