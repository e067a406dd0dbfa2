"""Score and write what a training run has made."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutualnet.config import write_recipe
from mutualnet.data import plain_loader
from mutualnet.distributed import current_ranks, gather, training_device
from mutualnet.evaluation import score_here
from mutualnet.precision import PLAIN
from mutualnet.run_directory import (
    CONFIG,
    INFO,
    network_name,
    save_heads,
    save_run,
    seal_run,
    write_peers_info,
)
from mutualnet.tasks import Classification, Score, Task
from mutualnet.training.history import Validation
from mutualnet.training.setup import TrainingSetup, plain_task

logger = logging.getLogger(__name__)


def are_scored(setup: TrainingSetup) -> bool:
    """Whether the networks of a run are scored at its end: where several train, or are taught.

    A network that only its own sub-networks learn from is scored by its table.
    """
    recipe = setup.recipe
    teaches = recipe.teaching.method != "independent" or len(setup.networks) > 1
    return teaches and all(
        trained.supernet.is_full(recipe.space.largest) for trained in setup.networks
    )


def final_scores(setup: TrainingSetup) -> list[Score | None]:
    """Each full network's score on the test split, in eval mode and the weights' own precision.

    Of several processes each scores some of the networks, and all get all scores.
    """
    indices = list(range(len(setup.networks)))
    if not are_scored(setup):
        return [None for _ in indices]
    recipe, ranks = setup.recipe, current_ranks()
    mine: dict[int, Score] = {}
    for index in indices[ranks.rank :: ranks.size]:
        # Lightning leaves the networks on the CPU.
        supernet = setup.networks[index].supernet.to(training_device()).eval()
        batches = plain_loader(
            setup.data.test, recipe.data.batch_size, num_workers=recipe.data.num_workers
        )
        task, largest = plain_task(recipe), recipe.space.largest
        mine[index] = score_here(supernet, batches, [largest], task=task)[largest]
    found: dict[int, Score] = {}
    for part in gather(mine):
        found |= part
    return [found[index] for index in indices]


def save_networks(
    setup: TrainingSetup,
    place: Path,
    run_info: dict[str, Any],
    scores: Sequence[Score | None],
    validation: Validation | None = None,
) -> None:
    """Write a run of one network, or one run for each of several.

    Args:
        setup: What has trained.
        place: Directory of the run.
        run_info: For `run.json`.
        scores: Of each full network on the test split.
        validation: Scores of the largest and the smallest sub-networks at the end.
    """
    indices = range(len(setup.networks))
    for index, trained, score in zip(indices, setup.networks, scores, strict=True):
        trained.supernet.cpu()
        PLAIN.arrange(trained.supernet.model)
        found = {**run_info, "sorted_channels": trained.origin.sorted_by}
        if validation is not None:
            found["scores"] = validation.of_network(index)
        if score is not None:
            found["test"] = _score_values(score, setup.task)
        path = place
        if len(setup.networks) > 1:
            path = place / network_name(index)
            path.mkdir(exist_ok=True)
            write_recipe(setup.recipe.alone(index), path / CONFIG)
        save_run(path, trained.supernet, found)
        if trained.heads is not None and setup.recipe.teaching.keep_heads:
            save_heads(path, trained.heads)
        seal_run(path)
        if score is not None:
            logger.info("%s: %s", _title(setup, index), _describe_score(score, setup.task))
    if len(setup.networks) > 1:
        write_peers_info(place, len(setup.networks), run_info)
        seal_run(place)


def describe_scores(path: Path) -> list[str]:
    """What a finished run says of its largest and smallest sub-network, in lines for people.

    Args:
        path: Directory of one network's run.
    """
    found = json.loads((path / INFO).read_text()).get("scores")
    if found is None:
        return []
    lines = [
        f"{found['split']} {found['score_name']}, "
        f"{found['num_images']} of {found['num_available']} {found.get('input_kind', 'image')}s:"
    ]
    for role in ("largest", "smallest"):
        if role in found:
            score = found[role]
            lines.append(
                f"  {role:<8}  {score['subnet']:<9} "
                f"{score['value']:.2f} ± {score['standard_error']:.2f}"
            )
    return lines


def _title(setup: TrainingSetup, index: int) -> str:
    name = setup.recipe.models[index].name
    return name if len(setup.networks) == 1 else f"{network_name(index)} ({name})"


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
