"""`mutualnet predict`: what files show, by the best sub-network within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mutualnet.budget import Budget, parse_budgets
from mutualnet.console import make_console
from mutualnet.cpu import prepare_cpu
from mutualnet.image_paths import find_images, shown
from mutualnet.messages import unreadable_images
from mutualnet.numbers import in_digits
from mutualnet.prediction import (
    Classifier,
    choose_row,
    classify,
    drawn_places,
    note_other_device,
)
from mutualnet.prediction_documents import Output, Predictor, write
from mutualnet.run_directory import Run, load_run
from mutualnet.table import Row


def predict(
    path: Path,
    images: Sequence[Path | str],
    *,
    budget: str | Sequence[str] | None = None,
    output: Output = "text",
    out: Path | None = None,
    trust: bool = False,
) -> None:
    """Say what images or videos show, by the best sub-network within a budget.

    Args:
        path: The run.
        images: Files, folders (with all below), and patterns such as `photos/*.jpg`.
        budget: One, or several that must all hold; none for the best of all.
        output: Lines for people, or one document for programs.
        out: Where to write copies on which it can be seen: a file for one input, a folder for
            several.
        trust: As for `load_run`.

    Raises:
        ValueError: If nothing meets the budget, a copy cannot be written, or, once all others are
            classified, if some of the images cannot be read. It names them.
    """
    limit = parse_budgets([budget] if isinstance(budget, str) else budget or ())
    prepare_cpu()
    run = load_run(path, trust=trust)
    classifier = Classifier(run, choose_row(run, limit))
    note_other_device(run, limit)
    task = classifier.task
    paths = list(find_images([str(image) for image in images], task.input_endings))
    predictions = classify(classifier, paths, drawn_places(task, paths, out))
    if output == "text":
        console = make_console()
        console.print(_describe(run, classifier.row, limit))
        errors = []
        for found in predictions:
            errors += [] if found.error is None else [found.error]
            for line in found.lines:
                console.print(f"  {found.file}: {line}")
            if found.drawn is not None:
                console.print(f"  written: {shown(found.drawn)}")
    else:
        errors = write(output, _predictor(classifier, limit), predictions)
    if errors:
        raise ValueError(unreadable_images(errors, len(paths), task.input_kind))


def _predictor(classifier: Classifier, limit: Budget) -> Predictor:
    run = classifier.run
    assert run.table is not None
    number_format = str(classifier.compute_format)
    return Predictor(
        source={"run": shown(run.path)},
        table=run.table,
        row=classifier.row,
        limit=limit,
        class_names=run.info["class_names"],
        details={"number_format": number_format, "views": run.recipe.num_views},
        object_columns=classifier.task.object_columns,
    )


def _describe(run: Run, row: Row, limit: Budget) -> str:
    assert run.table is not None
    cost = f"{in_digits(row.macs / 1e6, 4)} M multiply-adds"
    if row.latency_ms is not None:
        cost += f", {in_digits(row.latency_ms, 3)} ms"
    if run.recipe.num_views > 1:
        cost += f" for each of {run.recipe.num_views} views"
    asked = "best of all" if limit == Budget() else f"within {limit}"
    scores = ", ".join(map(str, run.table.scores(row)))
    return f"{asked}: sub-network {row.subnet}, {cost}, score {scores}"
