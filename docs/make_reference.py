"""Write `docs/reference.md`: every public name with its signature and first line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import mutualnet
from mutualnet.models.registry import OWN_MODELS

PAGE = Path(__file__).with_name("reference.md")

MODULES = {
    "mutualnet": mutualnet.__all__,
    "mutualnet.tabulation": ["TableInputs", "build_table", "race_table", "race"],
    "mutualnet.table": ["Row", "SplitScore"],
    "mutualnet.search": ["search_subnets", "SearchResult", "best_finds", "with_finds"],
    "mutualnet.prediction": ["Classifier"],
    "mutualnet.image_paths": ["find_images"],
    "mutualnet.image_steps": ["ImageSteps"],
    "mutualnet.runtime": [
        "AdaptiveRunner",
        "Artifact",
        "ArtifactError",
        "Prediction",
        "measure",
        "read_labelled",
        "score_images",
    ],
    "mutualnet.export": [
        "export_run",
        "write_artifact",
        "ArtifactInfo",
        "write_standalone",
        "choose_rows",
    ],
    "mutualnet.data": [
        "load_data",
        "photo_transform",
        "DataSplits",
        "Preprocessing",
        "TaskScaling",
    ],
    "mutualnet.models": [
        "create_model",
        "WideResNet",
        "CifarResNet",
        "CifarDenseNet",
        "Slow",
        "SlowFast",
        "X3D",
        "mask_rcnn",
        "faster_rcnn",
        "retinanet",
    ],
    "mutualnet.teaching": [
        "independent",
        "deep_supervision",
        "kd",
        "dml",
        "dks",
        "dcm",
        "with_teacher",
    ],
    "mutualnet.peers": ["PeerStepResult"],
    "mutualnet.heads": ["Blocks", "head_preset", "wide_resnet_heads", "cifar_resnet_heads"],
    "mutualnet.tasks.base": ["Task", "Score", "ScoreAccumulator"],
    "mutualnet.tasks.classification": ["Classification"],
    "mutualnet.tasks": [
        "MultiLabel",
        "Detection",
        "InstanceSegmentation",
        "ActionRecognition",
        "SlowFastActionRecognition",
        "detector_macs",
    ],
    "mutualnet.config": [
        "Recipe",
        "ModelConfig",
        "DataConfig",
        "OptimizerConfig",
        "MethodConfig",
        "TeachingConfig",
        "PeerConfig",
        "ClipConfig",
        "ComputeConfig",
        "TableConfig",
        "WatchConfig",
        "read_recipe",
        "write_recipe",
        "override",
        "with_epochs",
        "with_lr",
        "with_method",
        "with_model",
        "with_optimizer",
        "with_teaching",
    ],
    "mutualnet.recipes": ["load_recipe", "independent_grid"],
    "mutualnet.training": ["train", "dry_run"],
    "mutualnet.distributed": ["process_group", "average_gradients"],
    "mutualnet.planning": ["propose_space"],
    "mutualnet.pretrained": ["copy_weights"],
    "mutualnet.run_directory": ["load_run", "Run"],
}


def _arguments(function: Callable[..., Any]) -> str:
    """As in a call: keywords after a star, and defaults that are plain values."""
    shown, is_keyword = [], False
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword:
            is_keyword = True
            shown.append("*")
        default = parameter.default
        is_plain = default is None or isinstance(default, bool | int | float | str | tuple)
        known = "" if default is parameter.empty else f"={default!r}" if is_plain else "=..."
        shown.append(name + known)
    return ", ".join(shown)


def _members(kind: type) -> list[str]:
    shown = []
    if is_dataclass(kind):
        names = [field.name for field in fields(kind) if not field.name.startswith("_")]
        shown.append("  - fields: " + ", ".join(f"`{name}`" for name in names))
    for name, member in vars(kind).items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        is_method = inspect.isfunction(function)
        if name.startswith("_") or not (is_method or isinstance(member, property)):
            continue
        line = (inspect.getdoc(function) or "").partition("\n")[0]
        name = f"{name}({_arguments(function)})" if is_method else name
        shown.append(f"  - `{name}`: {line}")
    return shown


def _entry(name: str, member: Any) -> list[str]:
    first = (inspect.getdoc(member) or "").partition("\n")[0]
    if inspect.isclass(member):
        is_made_so = not is_dataclass(member) and inspect.isfunction(vars(member).get("__init__"))
        name = f"{name}({_arguments(member)})" if is_made_so else name
        return [f"- **`{name}`**: {first}", *_members(member)]
    if callable(member):
        return [f"- **`{name}({_arguments(member)})`**: {first}"]
    return [f"- **`{name}`**: a dictionary with {', '.join(f'`{key}`' for key in member)}"]


def page() -> str:
    """The page as text."""
    lines = ["# Reference", "", "Written by `make docs`. `help()` tells arguments and errors.", ""]
    for module, names in MODULES.items():
        lines += [f"## `{module}`", ""]
        for name in names:
            lines += _entry(name, getattr(__import__(module, fromlist=[name]), name))
        lines.append("")
    lines += ["## Networks of ours", "", "By these names in recipes and commands:", ""]
    return "\n".join([*lines, ", ".join(f"`{name}`" for name in OWN_MODELS) + ".", ""])


if __name__ == "__main__":
    PAGE.write_text(page())
