"""Write `docs/reference.md`: every public name with its signature and first line."""

from __future__ import annotations

import inspect
from pathlib import Path

import mutualnet

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
    "mutualnet.export": ["export_run", "write_artifact", "write_standalone", "choose_rows"],
    "mutualnet.data": ["load_data", "photo_transform", "DataSplits", "Preprocessing"],
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
    "mutualnet.tasks.base": ["Task", "Score"],
    "mutualnet.tasks.classification": ["Classification"],
    "mutualnet.tasks": ["MultiLabel", "Detection", "InstanceSegmentation", "detector_macs"],
    "mutualnet.config": [
        "Recipe",
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
    "mutualnet.run_directory": ["load_run"],
}


def _methods(kind: type) -> list[str]:
    shown = []
    for name, member in vars(kind).items():
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        line = (inspect.getdoc(member) or "").partition("\n")[0]
        if inspect.isfunction(member):
            names = [p for p in inspect.signature(member).parameters if p != "self"]
            name = f"{name}({', '.join(names)})"
        shown.append(f"  - `{name}`: {line}")
    return shown


def page() -> str:
    """The page as text."""
    lines = ["# Reference", "", "Written by `make docs`. `help()` tells arguments and errors.", ""]
    for module, names in MODULES.items():
        lines += [f"## `{module}`", ""]
        for name in names:
            member = getattr(__import__(module, fromlist=[name]), name)
            first = (inspect.getdoc(member) or "").partition("\n")[0]
            if inspect.isclass(member):
                lines += [f"- **`{name}`**: {first}", *_methods(member)]
            elif callable(member):
                arguments = ", ".join(inspect.signature(member).parameters)
                lines.append(f"- **`{name}({arguments})`**: {first}")
            else:
                lines.append(f"- **`{name}`**: a {type(member).__name__}")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
