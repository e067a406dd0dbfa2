"""Score and write what a training run has made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mutualnet.config_text import write_recipe
from mutualnet.data.feeding import plain_loader
from mutualnet.evaluate import evaluate
from mutualnet.prepare import Prepared, plain_task
from mutualnet.runs import CONFIG, network_name, save_heads, save_peers, save_run
from mutualnet.tasks import Classification, Score, Task

__all__ = ["final_scores", "save_networks"]

logger = logging.getLogger(__name__)


def final_scores(ready: Prepared) -> list[Score | None]:
    """Each full network's score on the test split, where networks teach each other.

    A network that only its own sub-networks learn from is scored by its table.
    """
    recipe = ready.recipe
    largest = recipe.space.largest
    teaches = recipe.teaching.method != "independent" or len(ready.learners) > 1
    scores: list[Score | None] = []
    for own in ready.learners:
        if not teaches or not own.supernet.is_full(largest):
            scores.append(None)
            continue
        own.supernet.eval()
        batches = plain_loader(
            ready.data.test, recipe.data.batch_size, num_workers=recipe.data.num_workers
        )
        found = evaluate(own.supernet, batches, [largest], task=plain_task(recipe))
        scores.append(found[largest])
    return scores


def save_networks(
    ready: Prepared, place: Path, facts: dict[str, Any], scores: Sequence[Score | None]
) -> None:
    """Write a run of one network, or one run for each of several."""
    numbers = range(len(ready.learners))
    for number, own, score in zip(numbers, ready.learners, scores, strict=True):
        own.supernet.cpu()
        own.supernet.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        found = facts if score is None else facts | {"test": _score_values(score, ready.task)}
        path = place
        if len(ready.learners) > 1:
            path = place / network_name(number)
            path.mkdir(exist_ok=True)
            write_recipe(ready.recipe.alone(number), path / CONFIG)
        save_run(path, own.supernet, found)
        if own.heads is not None and ready.recipe.teaching.keep_heads:
            save_heads(path, own.heads)
        if score is not None:
            logger.info("%s: %s", _title(ready, number), _describe_score(score, ready.task))
    if len(ready.learners) > 1:
        save_peers(place, len(ready.learners), facts)


def _title(ready: Prepared, number: int) -> str:
    name = ready.recipe.models[number].name
    return name if len(ready.learners) == 1 else f"{network_name(number)} ({name})"


def _score_values(score: Score, task: Task) -> dict[str, Any]:
    return {
        "score_name": task.score_name,
        "value": score.value,
        "standard_error": score.standard_error,
        "num_samples": score.num_samples,
    }


def _describe_score(score: Score, task: Task) -> str:
    text = f"{task.score_name} {score.value:.2f} ± {score.standard_error:.2f}"
    if isinstance(task, Classification):
        text += f", error {100 - score.value:.2f} %"
    return f"test {text}"
