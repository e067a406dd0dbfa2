"""The manifest of an artifact: what it holds, checked when it is read."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mutualnet import image_paths, video_files
from mutualnet.clip_steps import ClipSampling
from mutualnet.image_steps import ImageSteps, TaskScaling
from mutualnet.space import Subnet

FORMAT = "mutualnet.artifact"
FORMAT_VERSION, CLIPS_VERSION = 1, 2
"""Versions of artifacts of images and of clips; older readers know the first alone."""
MANIFEST, TABLE, WEIGHTS = "manifest.json", "table.json", "weights.bin"
TASKS = ("classification", "multilabel", "action_recognition")
"""What outputs can be read as: one class of K, any of K labels, or one class of a video."""
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
"""Names of files in an artifact: none leaves the folder."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ArtifactError(ValueError):
    """An artifact that is damaged, inconsistent or of a version that this one cannot read."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A sub-network that the artifact can run as."""

    subnet: Subnet
    graph: str
    """File name of its ONNX graph."""
    num_bytes: int
    """Of its weights in memory."""
    batch_size: int | None = None
    """Images that its graph takes at once; None for any number."""
    max_difference: float = 0.0
    """Largest difference of its outputs from PyTorch's, as verified when it was exported."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that running an artifact needs to know, apart from weights and scores."""

    task: str
    """One of `TASKS`."""
    class_names: tuple[str, ...]
    """Name of each of the K outputs."""
    input_channels: int
    resolution: int
    """Side of the square that every graph takes, in pixels; each resizes it to its own."""
    image_steps: ImageSteps
    """From an image file, or a frame of a video, to that square; the last step is inside of the
    graphs."""
    configurations: tuple[Configuration, ...]
    files: Mapping[str, str]
    """SHA-256 of every other file, by its name."""
    clips: ClipSampling | None = None
    """Which frames of a video every graph takes; None for images."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Recipe, data, versions, for the reader."""

    @property
    def kind(self) -> str:
        """What it runs on, in messages."""
        return "image" if self.clips is None else "video"

    @property
    def endings(self) -> tuple[str, ...]:
        """Of the names of such files, in small letters."""
        return image_paths.EXTENSIONS if self.clips is None else video_files.EXTENSIONS

    @property
    def num_views(self) -> int:
        """Samples that one video is looked at in; 1 for images."""
        return 1 if self.clips is None else self.clips.num_views

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one sample that every graph takes: (C, H, W), or (C, T, H, W) for clips."""
        frames = () if self.clips is None else (self.clips.num_frames,)
        return (self.input_channels, *frames, self.resolution, self.resolution)

    def to_json(self) -> str:
        """The manifest as JSON text, with a checksum of itself."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION if self.clips is None else CLIPS_VERSION,
            "task": self.task,
            "class_names": list(self.class_names),
            "input": {"channels": self.input_channels, "resolution": self.resolution},
            "preprocessing": self.image_steps.to_values(),
            **({} if self.clips is None else {"clips": asdict(self.clips)}),
            "configurations": [
                {
                    "subnet": c.subnet.to_dict(),
                    "graph": c.graph,
                    "num_bytes": c.num_bytes,
                    "batch_size": c.batch_size,
                    "max_difference": c.max_difference,
                }
                for c in self.configurations
            ],
            "provenance": dict(self.provenance),
            "files": dict(self.files),
        }
        return json.dumps({**values, "sha256": _digest(values)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read back what `to_json` wrote.

        Raises:
            ArtifactError: If it is not whole, was changed, or is of another version.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{MANIFEST} is not JSON ({error})") from None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ArtifactError(f"{MANIFEST} must be of format {FORMAT!r}")
        if values.get("format_version") not in (FORMAT_VERSION, CLIPS_VERSION):
            raise ArtifactError(
                f"{MANIFEST} has format version {values.get('format_version')!r:.80}, this version "
                f"reads {FORMAT_VERSION} and {CLIPS_VERSION}: update mutualnet, or export again"
            )
        checksum = values.pop("sha256", None)
        try:
            found = _digest(values)
        except (TypeError, ValueError, RecursionError):
            found = ""
        if checksum != found:
            raise ArtifactError(f"{MANIFEST} was changed: it does not fit its own checksum")
        try:
            return _read(values)
        except ArtifactError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else error
            raise ArtifactError(f"{MANIFEST} is not whole ({what})") from None


def _digest(values: Mapping[str, Any]) -> str:
    plain = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


def _read(values: Mapping[str, Any]) -> Manifest:
    task, names, files = values["task"], values["class_names"], values["files"]
    _require(task in TASKS, "task", f"be one of {', '.join(TASKS)}", task)
    _require(
        isinstance(names, list) and bool(names) and all(isinstance(n, str) for n in names),
        "class_names",
        "be a list of names",
        names,
    )
    _require(isinstance(files, dict), "files", "map names to checksums", files)
    for name, checksum in files.items():
        _require(bool(FILE_NAME.fullmatch(name)), "files", "have plain names", name)
        is_checksum = isinstance(checksum, str) and bool(_SHA256.fullmatch(checksum))
        _require(is_checksum, f"the checksum of {name}", "be a SHA-256", checksum)
    _require({TABLE, WEIGHTS} <= set(files), "files", f"hold {TABLE} and {WEIGHTS}", list(files))
    channels, side = values["input"]["channels"], values["input"]["resolution"]
    _require(_is_count(channels), "input.channels", "be a whole number >= 1", channels)
    _require(_is_count(side), "input.resolution", "be a whole number >= 1", side)
    steps = ImageSteps.from_values(values["preprocessing"])
    _require(not isinstance(steps.last, TaskScaling), "preprocessing", "be known", steps.last)
    clips = None
    if values["format_version"] == CLIPS_VERSION:
        _require(isinstance(values["clips"], dict), "clips", "be an object", values["clips"])
        clips = ClipSampling(**values["clips"])
    is_video = task == "action_recognition"
    _require(is_video == (clips is not None), "task", "fit the format version", task)
    _require(isinstance(values["provenance"], dict), "provenance", "be an object", "another")
    configurations = tuple(_read_configuration(c, files) for c in values["configurations"])
    _require(bool(configurations), "configurations", "be at least one", "none")
    subnets = {c.subnet for c in configurations}
    _require(len(subnets) == len(configurations), "configurations", "differ", "two equal ones")
    return Manifest(
        task=task,
        class_names=tuple(names),
        input_channels=channels,
        resolution=side,
        image_steps=steps,
        clips=clips,
        configurations=configurations,
        files=files,
        provenance=values["provenance"],
    )


def _read_configuration(values: Any, files: Mapping[str, str]) -> Configuration:
    _require(isinstance(values, dict), "a configuration", "be an object", values)
    graph, num_bytes, size = values["graph"], values["num_bytes"], values["batch_size"]
    difference = values["max_difference"]
    _require(graph in files, "the graph of a configuration", "be one of the files", graph)
    _require(_is_count(num_bytes), "num_bytes", "be a whole number >= 1", num_bytes)
    _require(size is None or _is_count(size), "batch_size", "be a whole number or null", size)
    is_known = isinstance(difference, int | float) and not isinstance(difference, bool)
    _require(is_known and math.isfinite(difference), "max_difference", "be finite", difference)
    return Configuration(
        subnet=Subnet.from_dict(values["subnet"]),
        graph=graph,
        num_bytes=num_bytes,
        batch_size=size,
        max_difference=float(difference),
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**53


def _require(holds: bool, name: str, what: str, got: Any) -> None:
    if not holds:
        raise ArtifactError(f"{name} in {MANIFEST} must {what}, got {got!r:.80}")
