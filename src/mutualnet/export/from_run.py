"""Export what a run directory holds."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mutualnet import __version__
from mutualnet.clip_steps import ClipSampling
from mutualnet.data import first_batch, plain_loader
from mutualnet.export.artifact_writer import ArtifactInfo, choose_rows, write_artifact
from mutualnet.export.backbone import write_backbone
from mutualnet.export.quantization import NUM_CALIBRATION_IMAGES, QuantizationData
from mutualnet.export.standalone import SUFFIXES, write_standalone
from mutualnet.image_paths import as_typed
from mutualnet.run_directory import Run
from mutualnet.runtime import TASKS
from mutualnet.space import Subnet
from mutualnet.table import TEST, QueryTable, Row
from mutualnet.training import RunData, load_run_data, plain_task

SUFFIX = ".mutualnet"
"""Ending of an artifact's name."""
_NUM_IMAGES = 8
"""Real images that every export is verified with."""


def export_run(
    run: Run,
    out: Path,
    *,
    configurations: str = "front",
    kind: str | None = None,
    data: str | None = None,
    int8: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Export configurations of a run, after each has given there what PyTorch gives.

    Args:
        run: With its table.
        out: File to write.
        configurations: `front`, `all`, a count of those of the front, or names as in the table,
            separated by commas: `0.5x160,1x224`.
        kind: `onnx`, `openvino` or `torch` for one configuration by itself; None for an artifact.
            Of a detector that is its backbone, and there is no artifact.
        data: Folder of the images, where they are elsewhere now than when it was trained. Some of
            the images that choose are what exports are verified with.
        int8: Add a quantised variant of each configuration to an artifact.
        say: Told what was exported, a line each.

    Raises:
        ValueError: If the run has no table, `configurations` says something else, a network cannot
            be exported, or it gives other outputs there.
    """
    if run.table is None:
        raise ValueError(
            f"{run.path} has no query table yet. Make it: mutualnet table {as_typed(run.path)}"
        )
    check_place(out, kind)
    rows = _parse_configurations(run.table, configurations)
    if kind is not None and len(rows) != 1:
        raise ValueError(
            f"--format {kind} is for one configuration by itself, got {len(rows)}. Name it: "
            f"--configs {as_typed(str(rows[-1].subnet))}"
        )
    if kind is not None and int8:
        raise ValueError(f"--int8 is for artifacts, got --format {kind}")
    provenance = _provenance(run)
    part = run.supernet.elastic_part
    if part and run.recipe.task not in TASKS:
        if kind is None:
            raise ValueError(
                f"an artifact holds whole networks, but of {run.recipe.model.name} only the {part} "
                f"can be exported: --format onnx --configs {as_typed(str(rows[-1].subnet))}"
            )
        images_of_part = _scaled_images(load_run_data(run, data), rows[0].subnet)
        write_backbone(out, kind, run.supernet, rows[0].subnet, images_of_part, provenance)
        say(f"exported the {part} of {rows[0].subnet}")
        return
    run_data = load_run_data(run, data)
    images = _images(run_data)
    quantization = None
    if int8:
        quantization = _quantization(run_data)
        provenance["int8_calibration_images"] = len(quantization.calibration)
    info = ArtifactInfo(
        task=run.recipe.task,
        class_names=tuple(run.info["class_names"]),
        preprocessing=run.preprocessing,
        clips=ClipSampling(**run.recipe.clip_options) if run.recipe.clip_options else None,
        provenance=provenance,
    )
    # Fused kernels of one thread and of several round alike only by chance; the check allows both.
    if kind is None:
        write_artifact(out, run.supernet, run.table, rows, info, images, say, int8=quantization)
    else:
        write_standalone(out, kind, run.supernet, rows[0].subnet, info, images)
        say(f"exported {rows[0].subnet}")


def check_place(out: Path, kind: str | None) -> None:
    """Check that a file can be written there.

    Args:
        out: As for `export_run`.
        kind: As for `export_run`.

    Raises:
        ValueError: If it ends otherwise than the format's files do, or lies in no folder.
    """
    suffix = SUFFIX if kind is None else SUFFIXES.get(kind)
    if suffix is not None and out.suffix != suffix:
        raise ValueError(f"--out must end in {suffix}, got {out}")
    if not out.parent.is_dir():
        raise ValueError(f"--out must lie in a folder that is there, got {out}")
    if out.is_dir():
        raise ValueError(f"--out must name a file, got the folder {out}")


def _parse_configurations(table: QueryTable, text: str) -> tuple[Row, ...]:
    if text in ("front", "all"):
        return choose_rows(table, text)
    if re.fullmatch(r"[+-]?[0-9]+", text.strip()):
        return choose_rows(table, int(text))
    by_name = {str(row.subnet): row for row in table.rows}
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in by_name]
    if unknown or not names:
        raise ValueError(
            "--configs must be front, all, a count, or names of the table such as "
            f"{next(iter(by_name))}, got {(unknown or [text])[0]!r}"
        )
    return choose_rows(table, [by_name[name].subnet for name in names])


def _images(data: RunData) -> Tensor:
    """Some of the images that choose, or clips of such videos, as the network sees them."""
    batch = next(iter(plain_loader(data.splits.select, _NUM_IMAGES, num_workers=0)))
    inputs = plain_task(data.recipe).inputs(batch)
    if not isinstance(inputs, Tensor):
        raise ValueError(
            f"networks of the task {data.recipe.task} take lists of images, and are not exported. "
            "Run them by mutualnet predict."
        )
    return inputs[:_NUM_IMAGES].float().contiguous()


def _scaled_images(data: RunData, subnet: Subnet) -> list[Tensor]:
    """Some of the images that choose, as a configuration of a detector sees them."""
    task = plain_task(data.recipe)
    batch = first_batch(data.splits.select, 2, seed=data.recipe.seed)
    return list(task.inputs(task.scale(batch, subnet)))


def _quantization(data: RunData) -> QuantizationData:
    task, splits = plain_task(data.recipe), data.splits
    batches = data.calibration(NUM_CALIBRATION_IMAGES)
    images = torch.cat([task.inputs(batch).float() for batch in batches])
    scored = {splits.selection.split: splits.select}
    scored.setdefault(TEST, splits.test)
    return QuantizationData(
        calibration=images.numpy(),
        splits={name: partial(data.whole, images) for name, images in scored.items()},
        task=task,
    )


def _provenance(run: Run) -> dict[str, Any]:
    assert run.table is not None
    scored = run.table.meta
    return {
        "recipe": run.recipe.name,
        "model": run.recipe.model.name,
        "space": asdict(run.recipe.space),
        "data": run.recipe.data.name,
        "data_id": run.info["data_id"],
        "trained": run.info.get("finished"),
        "weights_sha256": run.supernet.weights_hash(),
        "table_scored_in": scored.get("scoring_format", scored.get("format", "fp32")),
        "mutualnet": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
