"""What the commands do that a device can run: plain text, no PyTorch."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mutualnet.budget import Budget, parse_budgets
from mutualnet.image_paths import as_typed, find_images, shown
from mutualnet.messages import printable, shorten, unreadable_images, without_numbers
from mutualnet.numbers import in_digits
from mutualnet.prediction_documents import FilePrediction, Output, Predictor, write
from mutualnet.progress import WorkProgress, counted
from mutualnet.runtime import (
    AdaptiveRunner,
    Artifact,
    ArtifactError,
    Prediction,
    device_name,
    findings,
    measure,
    read_labelled,
    score_images,
    with_latencies,
)
from mutualnet.score import Score
from mutualnet.space import Subnet
from mutualnet.table import QueryTable, Row, SplitScore

_SCORES_FORMAT, _FORMAT_VERSION = "mutualnet.scores", 1
_SECONDS_BETWEEN_LINES = 10.0


def run(
    path: Path,
    images: Sequence[str],
    *,
    budget: Sequence[str] = (),
    threads: int | None = None,
    output: Output = "text",
    public_key: Path | None = None,
) -> None:
    """Classify images or videos with the best configuration of an artifact within a budget.

    Args:
        path: The artifact.
        images: Files, folders (with all below), and patterns such as `photos/*.jpg`.
        budget: All must hold; none for the best of all.
        threads: That an inference uses; None for one a core.
        output: Lines for people, or one document for programs.
        public_key: File with the key of whoever must have signed the artifact.

    Raises:
        ValueError: If nothing meets the budget, or, once all others are classified, if some of the
            images cannot be read. It names them.
        ArtifactError: If a graph does not run.
    """
    limit = parse_budgets(budget)
    runner = AdaptiveRunner(path, threads=threads, public_key=public_key)
    artifact, manifest = runner.artifact, runner.artifact.manifest
    row = artifact.choose(limit)
    _note_circumstances(artifact, limit)
    paths = [str(image) for image in find_images(images, manifest.endings)]
    predictions = (
        _predict(runner, file, row.subnet) for file in counted(paths, manifest.kind, _note)
    )
    if output == "text":
        _say(f"configuration {row.subnet}, {_cost(artifact, row)}")
        errors = []
        for found in predictions:
            errors += [] if found.error is None else [found.error]
            for line in found.lines:
                _say(f"  {found.file}: {line}")
    else:
        predictor = Predictor(
            source={"artifact": shown(str(path))},
            table=artifact.table,
            row=row,
            limit=limit,
            class_names=runner.class_names,
        )
        errors = write(output, predictor, predictions)
    if errors:
        raise ValueError(unreadable_images(errors, len(paths), manifest.kind))


def _predict(runner: AdaptiveRunner, file: str, subnet: Subnet) -> FilePrediction:
    try:
        (found,) = runner.run(file, subnet)
    except ArtifactError:  # not the image's fault
        raise
    except ValueError as error:
        return FilePrediction(file=shown(file), error=str(error))
    if not math.isfinite(found.probability):
        return FilePrediction(file=shown(file), error=without_numbers(shown(file)))
    return FilePrediction(
        file=shown(file), lines=(_describe(runner, found),), probabilities=found.probabilities
    )


def _cost(artifact: Artifact, row: Row) -> str:
    cost = f"{in_digits(row.macs / 1e6, 4)} M multiply-adds"
    cost += "" if row.latency_ms is None else f", {in_digits(row.latency_ms, 3)} ms"
    if artifact.manifest.clips is not None:
        cost += f" a clip, {artifact.manifest.clips.num_views} clips a video"
    return f"{cost}, score {', '.join(map(str, artifact.table.scores(row)))}"


def _note_circumstances(artifact: Artifact, limit: Budget) -> None:
    """Say so where a budget of latency goes by times of another processor or of larger batches."""
    latency = artifact.table.meta.get("latency", {})
    there, batch_size = latency.get("device"), latency.get("batch_size", 1)
    if limit.latency_ms is None:
        return
    again = f"`mutualnet measure {as_typed(artifact.name)}`"
    if there != device_name():
        _note(
            f"latencies were measured on {there}, this is {device_name()}: measure them here "
            f"with {again}"
        )
    if batch_size != 1:
        _note(
            f"latencies are those of {batch_size} at a time, and so is the budget: {again} times "
            "one at a time, as `mutualnet run` takes them"
        )


def _describe(runner: AdaptiveRunner, prediction: Prediction) -> str:
    shares = list(zip(runner.class_names, prediction.probabilities, strict=True))
    shares.sort(key=lambda pair: -pair[1])
    if runner.artifact.manifest.task == "multilabel":
        shares = [pair for pair in shares if pair[1] >= 0.5] or shares[:1]
    else:
        shares = shares[:3]
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares)


def evaluate(
    path: Path,
    data: Path,
    *,
    budget: Sequence[str] = (),
    configurations: str | None = None,
    threads: int | None = None,
    as_json: bool = False,
    public_key: Path | None = None,
) -> None:
    """Score configurations on labelled images here, and compare with the table's scores.

    Args:
        path: The artifact.
        data: Folder with one folder for each class, or an .npz with `images` and `labels`.
        budget: All must hold; the best configuration within them is scored alone.
        configurations: Names as in the table, separated by commas; None for all, or those within
            the budget.
        threads: That an inference uses; None for one a core.
        as_json: Write one document for programs.
        public_key: File with the key of whoever must have signed the artifact.

    Raises:
        ValueError: If data or words do not fit the artifact, or, once all others are scored, if
            some of the images cannot be read.
    """
    limit = parse_budgets(budget)
    runner = AdaptiveRunner(path, threads=threads, public_key=public_key)
    artifact = runner.artifact
    subnets = [artifact.choose(limit).subnet] if budget else _named(artifact, configurations)
    _note_circumstances(artifact, limit)
    images = read_labelled(data, artifact.manifest)
    if images.empty_classes:
        _note(f"without {artifact.manifest.kind}s here: {shorten(images.empty_classes)}")
    progress, kind = WorkProgress(_note), artifact.manifest.kind
    done, last = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal last, done
        done += count
        progress.advance(count)
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES and done < len(images):
            last = time.monotonic()
            progress.part(f"{done} of {len(images)} {kind}s", len(images) - done)

    progress.part(f"scoring {_count(len(subnets), 'configuration')}", len(images))
    found = score_images(
        runner, images, subnets, advance=advance, complain=lambda line: _note(f"left out: {line}")
    )
    compared = [
        _Compared(
            subnet=subnet,
            here=score,
            there=artifact.table.scores(artifact.table.row(subnet))[0],
            is_share=artifact.manifest.task != "multilabel",
        )
        for subnet, score in found.by_subnet.items()
    ]
    if as_json:
        document = {
            "format": _SCORES_FORMAT,
            "format_version": _FORMAT_VERSION,
            "artifact": shown(path),
            "data": images.place,
            "score_name": artifact.table.score_name,
            "scores": [_plain(line) for line in compared],
            "left_out": list(found.damaged),
        }
        json.dump(document, sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
    else:
        _print_scores(compared, artifact.table, images.place, kind)
    if found.damaged:
        raise ValueError(
            f"{len(found.damaged)} of {len(images)} {kind}s cannot be read and were left out: "
            f"{shorten(found.damaged)}"
        )


def _named(artifact: Artifact, names: str | None) -> list[Subnet]:
    """Configurations by their names, the cheapest first; None for all."""
    rows = sorted(artifact.table.rows, key=lambda row: row.macs)
    if names is None:
        return [row.subnet for row in rows]
    by_name = {str(row.subnet): row.subnet for row in rows}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in by_name]
    if unknown or not wanted:
        raise ValueError(
            f"--configs must name configurations of the artifact ({', '.join(by_name)}), got "
            f"{(unknown or [names])[0]!r}"
        )
    return [subnet for name, subnet in by_name.items() if name in wanted]


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """What a configuration scores here, and in the table."""

    subnet: Subnet
    here: Score
    there: SplitScore
    is_share: bool
    """Whether the score is the share of images that are right, in percent."""

    @property
    def differs(self) -> bool:
        """Whether the scores are more than two standard errors of their difference apart."""
        if self.there.standard_error is None:
            return False
        error = math.hypot(self.here.standard_error, self.there.standard_error)
        if self.is_share:
            error = self._pooled_error(self.there.standard_error)
        return abs(self.here.value - self.there.value) > 2 * error

    def _pooled_error(self, error_there: float) -> float:
        """Standard error of the difference, in percent, as if both were samples of one share.

        The error of a share by itself vanishes where all of a few images are right, or none.
        """
        here, there = self.here.value / 100, self.there.value / 100
        count = self.here.num_samples
        count_there: float = count
        if error_there > 0:
            count_there = max(1.0, there * (1 - there) / (error_there / 100) ** 2)
        pooled = (count * here + count_there * there) / (count + count_there)
        return 100 * math.sqrt(max(0.0, pooled * (1 - pooled)) * (1 / count + 1 / count_there))


def _print_scores(compared: Sequence[_Compared], table: QueryTable, place: str, kind: str) -> None:
    num_samples = compared[0].here.num_samples
    _say(f"{table.score_name} on {_count(num_samples, kind)} of {place}")
    _say(f"{'configuration':<20}{'here':>14}{'in the table':>26}{'difference':>12}")
    apart = []
    for line in compared:
        here, there = line.here, line.there
        error = "" if there.standard_error is None else f" ± {there.standard_error:.1f}"
        in_table = f"{there.value:.1f}{error} on {there.split}"
        _say(
            f"{line.subnet!s:<20}{f'{here.value:.1f} ± {here.standard_error:.1f}':>14}"
            f"{in_table:>26}{here.value - there.value:>+12.1f}"
        )
        if line.differs:
            apart.append(str(line.subnet))
    if apart:
        _say(f"more than two standard errors of the difference from the table: {', '.join(apart)}")
    else:
        _say("no score is more than two standard errors of the difference from the table's")


def _plain(line: _Compared) -> dict[str, object]:
    return {
        "configuration": line.subnet.to_dict(),
        "score": line.here.value,
        "standard_error": line.here.standard_error,
        "num_samples": line.here.num_samples,
        "table_score": line.there.value,
        "table_standard_error": line.there.standard_error,
        "table_split": line.there.split,
        "differs": line.differs,
    }


def time_artifact(
    path: Path,
    *,
    threads: int = 1,
    batch_size: int = 1,
    runs: int = 50,
    name: Path | None = None,
) -> QueryTable:
    """Time every configuration on this device and write the times into the artifact.

    Args:
        path: The artifact.
        threads: That an inference uses.
        batch_size: Images of an inference.
        runs: Timed inferences of each configuration.
        name: What it is called in what is printed; None for its path.
    """
    artifact = Artifact.open(path)
    found = measure(artifact, threads=threads, batch_size=batch_size, runs=runs)
    table = with_latencies(artifact, found, threads=threads, batch_size=batch_size, runs=runs)
    what = artifact.manifest.kind if artifact.manifest.clips is None else "clip"
    _say(f"{device_name()}, threads: {threads}, {_count(batch_size, what)} at a time")
    _say(f"{'configuration':<20}{'score':>8}{'M macs':>10}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}")
    by_subnet = {latency.subnet: latency for latency in found}
    for row in sorted(table.rows, key=lambda row: row.macs):
        times = by_subnet[row.subnet]
        tails = "".join(f"{in_digits(ms, 3):>9}" for ms in (times.p50, times.p90, times.p99))
        macs = in_digits(row.macs / 1e6, 4)
        _say(f"{row.subnet!s:<20}{table.scores(row)[0].value:>8.1f}{macs:>10}{tails}")
    for line in findings(table):
        _say(line)
    try:
        artifact.with_table(table)
    except OSError as error:
        raise ValueError(
            f"latencies are written into {name or path}, which must be writable, got "
            f"{error.strerror or error}. Copy it to a folder of yours."
        ) from None
    _say(f"written into {name or path}")
    return table


def describe_artifact(path: Path) -> None:
    """Print what an artifact holds."""
    artifact = Artifact.open(path)
    manifest, table = artifact.manifest, artifact.table
    _say(
        f"{path}: {manifest.task} of {len(manifest.class_names)} classes, "
        f"{len(manifest.configurations)} configurations, {manifest.kind}s of {manifest.resolution} "
        "pixels"
    )
    if manifest.clips is not None:
        clips = manifest.clips
        _say(
            f"  clips: {clips.num_frames} frames, {clips.stride}/30 s apart, {clips.num_clips} x "
            f"{clips.num_crops} views of a video; multiply-adds and ms are of one view"
        )
    for name, value in manifest.provenance.items():
        _say(f"  {name}: {value}")
    _say(f"  signed: {'no' if artifact.signature is None else 'yes (run --public-key checks it)'}")
    latency = table.meta.get("latency")
    if latency:
        names = ("device", "threads", "batch_size", "measured")
        device, threads, size, measured = (latency.get(name, "unknown") for name in names)
        _say(f"  latencies: {device}, threads: {threads}, batch: {size}, {measured}")
    _say(f"{'configuration':<20}{'score':>16}{'M macs':>10}{'M params':>10}{'ms':>9}")
    for row in sorted(table.rows, key=lambda row: row.macs):
        time = "" if row.latency_ms is None else in_digits(row.latency_ms, 3)
        _say(
            f"{row.subnet!s:<20}{table.scores(row)[0]!s:>16}{in_digits(row.macs / 1e6, 4):>10}"
            f"{in_digits(row.params / 1e6, 4):>10}{time:>9}"
        )


def _say(line: str) -> None:
    print(printable(line))


def _note(line: str) -> None:
    print(printable(line), file=sys.stderr)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
