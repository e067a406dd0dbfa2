"""Search for sub-networks that are better than those of one width."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from mutualnet.search.choices import Choices
from mutualnet.search.evolutionary import evolve
from mutualnet.search.greedy import slim
from mutualnet.search.scoring import Evaluation, NoEvaluationsLeftError, Trials
from mutualnet.supernet import Supernet
from mutualnet.tasks.base import Task

logger = logging.getLogger(__name__)

METHODS = ("greedy", "evolutionary")


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Everything that a search has tried."""

    evaluations: tuple[Evaluation, ...]
    """In the order of the search, each network once."""
    is_whole: bool
    """Whether the search came to its end, an evolutionary one within every budget, before it had
    tried as many as it may."""


def search_subnets(
    supernet: Supernet,
    *,
    task: Task,
    train_batches: Iterable[Any],
    select_batches: Iterable[Any],
    method: Literal["greedy", "evolutionary"] = "greedy",
    by: Literal["stage", "group"] = "stage",
    num_widths: int = 7,
    budgets: Sequence[float] = (),
    evaluations: int = 200,
    seed: int = 0,
    num_calibration_samples: int = 256,
    autocast: torch.dtype | None = None,
    known: Iterable[Evaluation] = (),
    save: Callable[[Sequence[Evaluation]], None] = lambda tried: None,
) -> SearchResult:
    """Try sub-networks with a width for each stage or group, a depth and a resolution.

    The same arguments give the same search. Handed what an interrupted one had saved, it takes the
    same way without running that again.

    Args:
        supernet: The trained network; its BN bank is left as it is.
        task: Scales batches and keeps score.
        train_batches: For BN statistics; read again for every round.
        select_batches: What scores; read again for every round.
        method: "greedy" goes from the largest to the smallest, see `greedy.slim`; "evolutionary"
            searches within each budget, see `evolutionary.evolve`.
        by: Whether each stage has a width of its own, or each channel group.
        num_widths: Widths between the ends of the space.
        budgets: Multiply-adds. The evolutionary search shares its tries among them; the greedy one
            stops below the lowest.
        evaluations: Networks that may be tried in all.
        seed: Of the evolutionary search.
        num_calibration_samples: Images behind the BN statistics of a try.
        autocast: Precision of all passes, None for the weights' own.
        known: What was tried before, with the same data.
        save: Called after each round with all that was tried so far.

    Raises:
        ValueError: If there is no such method, `evaluations` is below 1, a budget is not positive,
            the evolutionary search has no budgets or one that no sub-network meets, or every width
            has BN weights of its own.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if supernet.own_norms is not None:
        raise ValueError(
            "a search needs BN weights that fit any width, but this network has some for each "
            "listed width alone (s_net). Train by another method, such as mutualnet."
        )
    if evaluations < 1:
        raise ValueError(f"evaluations must be >= 1, got {evaluations}")
    if method == "evolutionary" and not budgets:
        raise ValueError("an evolutionary search needs budgets of multiply-adds, got none")
    for budget in budgets:
        if not budget > 0:  # refuses NaN too
            raise ValueError(f"budgets must be > 0 multiply-adds, got {budget:g}")
    choices = Choices.of(supernet, by, num_widths)
    trials = Trials(
        supernet,
        choices,
        task=task,
        train_batches=train_batches,
        select_batches=select_batches,
        num_calibration_samples=num_calibration_samples,
        autocast=autocast,
        most=evaluations,
        known=known,
        save=save,
    )
    least = trials.macs(choices.uniform()[-1])
    if method == "evolutionary" and min(budgets) < least:
        raise ValueError(
            f"budgets must be at least the {least:,} multiply-adds of the smallest sub-network, "
            f"got {min(budgets):,.12g}. Raise it, or train a space with narrower ones."
        )
    is_whole = True
    try:
        if method == "greedy":
            slim(trials, stop_at=min(budgets, default=0.0))
        else:
            for number, macs in enumerate(sorted(budgets)):
                share = (evaluations - len(trials.tried)) // (len(budgets) - number)
                rng = np.random.default_rng([seed, number])
                is_whole &= evolve(trials, macs, rng, evaluations=share)
    except NoEvaluationsLeftError:
        is_whole = False
        logger.warning("the search may try no more than %d sub-networks: it ends", evaluations)
    return SearchResult(evaluations=tuple(trials.tried.values()), is_whole=is_whole)
