"""Write an artifact: the graphs of some configurations on one file of weights, and the table."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from PIL import Image
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from mutualnet.clip_steps import ClipSampling, view_crops
from mutualnet.data import Preprocessing
from mutualnet.export.graphs import (
    GraphTemplate,
    InputScaling,
    scaling_graph,
    set_groups,
    trace_graph,
)
from mutualnet.export.quantization import QuantizationData, quantized_variants
from mutualnet.export.shared_weights import SharedWeights
from mutualnet.export.slicing import attach_weights
from mutualnet.export.verification import (
    INPUT_TOLERANCE,
    TOLERANCE,
    check_difference,
    largest_difference,
    outputs_of,
    outputs_of_graph,
)
from mutualnet.image_steps import ImageSteps
from mutualnet.runtime import (
    MANIFEST,
    TABLE,
    TASKS,
    WEIGHTS,
    Configuration,
    Manifest,
    digest_of,
    write_archive,
)
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from mutualnet.table import QueryTable, Row
from mutualnet.tasks import frame_indices, make_task


@dataclass(frozen=True, kw_only=True)
class ArtifactInfo:
    """What an artifact is made of, apart from the network."""

    task: str
    """One of `mutualnet.runtime.TASKS`."""
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    clips: ClipSampling | None = None
    """Which frames of a video are shown; None for images."""
    provenance: Mapping[str, Any]
    """Plain values, for the reader."""

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(
                f"an artifact runs the tasks {', '.join(TASKS)}, got {self.task}: only the code of "
                "another task knows how to scale its inputs and what outputs say"
            )
        strangers = [name for name in self.class_names if not isinstance(name, str)]
        if strangers:
            raise ValueError(f"class_names must be text, got {strangers[0]!r:.80}")
        try:
            # As a device reads them back: the manifest's checksum goes by the text of its keys.
            plain = json.loads(json.dumps(dict(self.provenance), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"provenance must hold plain finite JSON values: {error}") from None
        object.__setattr__(self, "provenance", plain)

    def check(self, images: Tensor) -> None:
        """Refuse images of another shape than the preprocessing makes, as a device will.

        Raises:
            ValueError: If they are.
        """
        made = self._input_shape(int(images.shape[-1]))
        if images.shape[1:] != made:
            raise ValueError(
                f"images must be (N, {', '.join(map(str, made))}), as the preprocessing makes "
                f"them, got {tuple(images.shape)}"
            )

    def _input_shape(self, side: int) -> tuple[int, ...]:
        """(C, H, W) or (C, T, H, W) that a device makes of a square picture or a video of such."""
        picture = np.zeros((side, side, 3), np.uint8)
        if self.clips is None:
            return tuple(self.preprocessing(Image.fromarray(picture)).shape)
        channels, *sides = view_crops(self.preprocessing, self.clips)(picture).shape[1:]
        return (channels, self.clips.num_frames, *sides)

    def scaled(self, images: Tensor, subnet: Subnet) -> Tensor:
        """Images (N, C, H, W) or clips (N, C, T, H, W) as a sub-network sees them."""
        task = make_task(self.task)
        scaled: Tensor = task.inputs(task.scale((images, torch.zeros(len(images))), subnet))
        return scaled

    def scaling(self, shape: Sequence[int], subnet: Subnet) -> InputScaling:
        """The same rule for a graph.

        Args:
            shape: (C, H, W) or (C, T, H, W) at the top resolution, with all frames.
            subnet: Who sees it.
        """
        frames = None
        if self.clips is not None and subnet.num_frames not in (None, shape[1]):
            assert subnet.num_frames is not None
            frames = tuple(frame_indices(shape[1], subnet.num_frames))
        return InputScaling(shape=tuple(shape), resolution=subnet.resolution, frames=frames)


def choose_rows(table: QueryTable, wish: str | int | Sequence[Subnet]) -> tuple[Row, ...]:
    """Rows of a table to export, the cheapest first.

    Args:
        table: Of the run.
        wish: `front` for the best one at each budget of multiply-adds, `all` finished ones, a count
            of those of the front, spread evenly over its multiply-adds with both ends, or some
            sub-networks.

    Raises:
        ValueError: If there is no such choice, or the table has no finished row for one of them.
    """
    if isinstance(wish, int):
        if wish < 1:
            raise ValueError(f"at least one configuration must be exported, got {wish}")
        return _spread(table.front(), wish)
    if isinstance(wish, str):
        if wish not in ("front", "all"):
            raise ValueError(f"configurations must be 'front', 'all' or some, got {wish!r}")
        rows = table.front() if wish == "front" else table.finished
    else:
        rows = tuple(table.row(subnet) for subnet in dict.fromkeys(wish))
        if not rows:
            raise ValueError("at least one configuration must be exported, got none")
    return tuple(sorted(rows, key=lambda row: row.macs))


def _spread(front: tuple[Row, ...], count: int) -> tuple[Row, ...]:
    """Rows of a front nearest to evenly spaced multiply-adds; the best one is among them."""
    if count >= len(front):
        return front
    left, low, high = list(front), front[0].macs, front[-1].macs
    chosen = []
    for place in range(count):
        # From the top, so that the best one is there even if it is the only one.
        target = high - (high - low) * place / max(1, count - 1)
        nearest = min(left, key=lambda row: abs(row.macs - target))
        left.remove(nearest)
        chosen.append(nearest)
    return tuple(sorted(chosen, key=lambda row: row.macs))


def write_artifact(
    out: Path,
    supernet: Supernet,
    table: QueryTable,
    rows: Sequence[Row],
    info: ArtifactInfo,
    images: Tensor,
    say: Callable[[str], None] = lambda line: None,
    *,
    int8: QuantizationData | None = None,
) -> None:
    """Export configurations into one file, after each has given in ONNX Runtime what PyTorch gives.

    Args:
        out: File to write; replaced when the new one is whole.
        supernet: With statistics for every row; on the CPU.
        table: That the rows are of.
        rows: What to export; finished ones.
        info: Task, classes, preprocessing.
        images: Normalised real images float32 (N, C, H, W), or clips (N, C, T, H, W), at the top
            resolution, to verify with.
        say: Told what was exported, a line each.
        int8: To add a quantised variant of each configuration, with its scores.

    Raises:
        ValueError: If a row was dropped or comes from another table, the preprocessing makes other
            images, the network has not one output for each class, it cannot be exported, or its
            graph gives other outputs.
        MissingStatisticsError: If a row has no fresh BN statistics.
    """
    info.check(images)
    rows = choose_rows(table, [row.subnet for row in rows])
    side = int(images.shape[-1])
    weights = SharedWeights(WEIGHTS)
    configurations: list[Configuration] = []
    # By depth: networks of other blocks have other graphs.
    templates: dict[tuple[int, ...] | None, GraphTemplate] = {}
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
        folder = Path(name)
        for number, row in enumerate(rows):
            exporter = _Exporter(supernet, row.subnet, weights, info, images)
            file = folder / f"configuration-{number:03d}.onnx"
            difference, depths = math.inf, supernet.depths(row.subnet)
            template = templates.get(depths)
            if template is not None:
                with suppress(ValueError):
                    difference = exporter.write(template, file)
            if template is None or not difference <= TOLERANCE:
                # The first one, or its code computes with sizes that are not those of the last one.
                template = templates[depths] = exporter.trace()
                difference = exporter.write(template, file)
                check_difference(difference, f"the graph of {row.subnet}")
            configurations.append(
                Configuration(
                    subnet=row.subnet,
                    graph=file.name,
                    num_bytes=sum(4 * p.numel() for p in exporter.module.parameters()),
                    batch_size=template.batch_size,
                    max_difference=difference,
                )
            )
            say(f"exported {row.subnet} ({number + 1} of {len(rows)})")
        if int8 is not None:
            pairs = list(zip(configurations, rows, strict=True))
            variants = quantized_variants(folder, pairs, int8, say)
            configurations += [variant for variant, _ in variants]
            rows = [*rows, *(row for _, row in variants)]
        names = [*(c.graph for c in configurations), WEIGHTS]
        content = {name: folder / name for name in names}
        table_text = _table_of(table, rows).to_json().encode()
        manifest = Manifest(
            task=info.task,
            class_names=info.class_names,
            input_channels=int(images.shape[1]),
            resolution=side,
            clips=info.clips,
            image_steps=ImageSteps.from_values(info.preprocessing.to_values()),
            configurations=tuple(configurations),
            files={
                TABLE: hashlib.sha256(table_text).hexdigest(),
                **{name: digest_of(path) for name, path in content.items()},
            },
            provenance=info.provenance,
        )
        write_archive(out, {MANIFEST: manifest.to_json().encode(), TABLE: table_text, **content})


class _Exporter:
    """Writes the graph of one sub-network, and says how far its outputs are from PyTorch's."""

    def __init__(
        self,
        supernet: Supernet,
        subnet: Subnet,
        weights: SharedWeights,
        info: ArtifactInfo,
        images: Tensor,
    ) -> None:
        self.module = supernet.extract(subnet).eval().float()
        self.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self._slices, self._weights = supernet.weight_slices(subnet), weights
        self._images, self._scaled = images, info.scaled(images, subnet)
        self._scaling = info.scaling(images.shape[1:], subnet)
        self._num_classes = len(info.class_names)

    def trace(self) -> GraphTemplate:
        return trace_graph(self.module, self._scaled.shape[1:])

    def write(self, template: GraphTemplate, path: Path) -> float:
        """Write its graph, by a template that may be another sub-network's.

        Raises:
            ValueError: If the graph does not run.
        """
        missing = sorted(set(template.weights) - set(self.module.state_dict()))
        if missing:
            raise ValueError(f"the network must have {missing[0]}, as the template has")
        model = template.fill(self._scaling)
        set_groups(model, _groups_of(self.module))
        statistics = dict(self.module.named_buffers())
        attach_weights(model, template.weights, self._slices, statistics, self._weights)
        ir.save(model, path)
        self._weights.write(path.parent)
        found = outputs_of_graph(path, self._images.numpy(), template.batch_size)
        resized = self._resized(path.parent)
        return largest_difference(found, outputs_of(self.module, resized, self._num_classes))

    def _resized(self, folder: Path) -> Tensor:
        """What the graph's scaling makes of the images, after it has passed for the task's.

        Both round in their own way, which a deep network may amplify beyond the tolerance of its
        outputs; so the network is compared on the same pixels.
        """
        if not self._scaling.is_needed:
            return self._images
        path = folder / "scaling.onnx"
        ir.save(scaling_graph(self._scaling), path)
        found = outputs_of_graph(path, self._images.numpy(), None)
        difference = largest_difference(found, self._scaled.numpy())
        check_difference(difference, "the graph's scaling", INPUT_TOLERANCE)
        return torch.from_numpy(found)


def _groups_of(module: torch.nn.Module) -> dict[str, int]:
    """Groups of every convolution, by the name of its weight."""
    return {
        f"{path}.weight": layer.groups
        for path, layer in module.named_modules()
        if isinstance(layer, _ConvNd)
    }


def _table_of(table: QueryTable, rows: Sequence[Row]) -> QueryTable:
    """The rows without latencies, which were PyTorch's."""
    kept: dict[str, Any] = {
        name: table.meta[name] for name in ("score_name", "select", "data_id") if name in table.meta
    }
    return QueryTable.from_rows([replace(row, latency_ms=None) for row in rows], kept)
