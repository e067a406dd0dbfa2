"""What the commands do that a device can run: plain text, no PyTorch."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mutualnet.budget import Budget, parse_budget
from mutualnet.image_paths import find_images, shown
from mutualnet.messages import printable
from mutualnet.runtime import (
    AdaptiveRunner,
    Artifact,
    Prediction,
    device_name,
    findings,
    measure,
    with_latencies,
)
from mutualnet.table import QueryTable

_FORMAT, _FORMAT_VERSION = "mutualnet.predictions", 1


def run(
    path: Path,
    images: Sequence[str],
    *,
    budget: Sequence[str] = (),
    threads: int | None = None,
    as_json: bool = False,
) -> None:
    """Classify images with the best configuration of an artifact within a budget.

    Args:
        path: The artifact.
        images: Files, folders (with all below), and patterns such as `photos/*.jpg`.
        budget: All must hold; none for the best of all.
        threads: That an inference uses; None for one a core.
        as_json: Write one document for programs.

    Raises:
        ValueError: If nothing meets the budget, or, once all others are classified, if some of the
            images cannot be read. It names them.
    """
    limit = Budget()
    for text in budget:
        limit &= parse_budget(text)
    runner = AdaptiveRunner(path, threads=threads)
    artifact = runner.artifact
    row = artifact.choose(limit)
    note_other_device(artifact, limit)
    if not as_json:
        cost = f"{row.macs / 1e6:.4g} M multiply-adds"
        cost += "" if row.latency_ms is None else f", {row.latency_ms:.3g} ms"
        scores = ", ".join(map(str, artifact.table.scores(row)))
        _say(f"configuration {row.subnet}, {cost}, score {scores}")
    found, errors = [], []
    paths = [str(image) for image in find_images(images)]
    for file in paths:
        try:
            (prediction,) = runner.run(file, row.subnet)
        except ValueError as error:
            errors.append(str(error))
            found.append({"file": shown(file), "error": str(error)})
            continue
        found.append({"file": shown(file), **prediction.to_dict()})
        if not as_json:
            _say(f"  {shown(file)}: {_describe(runner, prediction)}")
    if as_json:
        document = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "artifact": shown(str(path)),
            "budget": {"macs": limit.macs, "latency_ms": limit.latency_ms},
            "configuration": row.subnet.to_dict(),
            "macs": row.macs,
            "latency_ms": row.latency_ms,
            "class_names": list(runner.class_names),
            "predictions": found,
        }
        json.dump(document, sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
    if errors:
        count = f"{len(errors)} of {len(paths)} images cannot be read: "
        raise ValueError(f"{count if len(paths) > 1 else ''}{'; '.join(errors)}")


def note_other_device(artifact: Artifact, limit: Budget) -> None:
    """Say so where a budget of latency goes by what was measured on another processor."""
    there = artifact.table.meta.get("latency", {}).get("device")
    if limit.latency_ms is not None and there != device_name():
        print(
            printable(
                f"latencies were measured on {there}, this is {device_name()}: measure them here "
                f"with `mutualnet measure {artifact.path}`"
            ),
            file=sys.stderr,
        )


def _describe(runner: AdaptiveRunner, prediction: Prediction) -> str:
    shares = list(zip(runner.class_names, prediction.probabilities, strict=True))
    shares.sort(key=lambda pair: -pair[1])
    if runner.artifact.manifest.task == "multilabel":
        shares = [pair for pair in shares if pair[1] >= 0.5] or shares[:1]
    else:
        shares = shares[:3]
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares)


def time_artifact(
    path: Path, *, threads: int = 1, batch_size: int = 1, runs: int = 50
) -> QueryTable:
    """Time every configuration on this device and write the times into the artifact.

    Args:
        path: The artifact.
        threads: That an inference uses.
        batch_size: Images of an inference.
        runs: Timed inferences of each configuration.
    """
    artifact = Artifact.open(path)
    found = measure(artifact, threads=threads, batch_size=batch_size, runs=runs)
    table = with_latencies(artifact, found, threads=threads, batch_size=batch_size, runs=runs)
    artifact.with_table(table)
    images = "1 image" if batch_size == 1 else f"{batch_size} images"
    _say(f"{device_name()}, threads: {threads}, {images} at a time")
    _say(f"{'configuration':<20}{'score':>8}{'M macs':>10}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}")
    by_subnet = {latency.subnet: latency for latency in found}
    for row in sorted(table.rows, key=lambda row: row.macs):
        times = by_subnet[row.subnet]
        _say(
            f"{row.subnet!s:<20}{table.scores(row)[0].value:>8.1f}{row.macs / 1e6:>10.4g}"
            f"{times.p50:>9.3g}{times.p90:>9.3g}{times.p99:>9.3g}"
        )
    for line in findings(table):
        _say(line)
    _say(f"written into {path}")
    return table


def describe_artifact(path: Path) -> None:
    """Print what an artifact holds."""
    artifact = Artifact.open(path)
    manifest, table = artifact.manifest, artifact.table
    _say(
        f"{path}: {manifest.task} of {len(manifest.class_names)} classes, "
        f"{len(manifest.configurations)} configurations, images of {manifest.resolution} pixels"
    )
    for name, value in manifest.provenance.items():
        _say(f"  {name}: {value}")
    latency = table.meta.get("latency")
    if latency:
        _say(
            f"  latencies: {latency['device']}, threads: {latency['threads']}, batch: "
            f"{latency['batch_size']}, {latency['measured']}"
        )
    _say(f"{'configuration':<20}{'score':>16}{'M macs':>10}{'M params':>10}{'ms':>9}")
    for row in sorted(table.rows, key=lambda row: row.macs):
        time = "" if row.latency_ms is None else f"{row.latency_ms:.3g}"
        _say(
            f"{row.subnet!s:<20}{table.scores(row)[0]!s:>16}{row.macs / 1e6:>10.4g}"
            f"{row.params / 1e6:>10.4g}{time:>9}"
        )


def _say(line: str) -> None:
    print(printable(line))
