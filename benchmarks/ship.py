"""What an artifact costs beside separate exports: bytes, loading, latency, switching, memory.

    OMP_NUM_THREADS=1 python benchmarks/ship.py [NETWORK...]   # measures, writes ship.json
    python benchmarks/ship.py --page                           # the page, from ship.json

Weights are random: none of this depends on them. Latencies are of one image and one thread, of both
files in turns, so that a machine that is slowed down meanwhile is so for both.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
import torch.nn.functional as F

from mutualnet import ElasticSpace, Subnet, Supernet, calibrate
from mutualnet.cost import CostModel
from mutualnet.data import photo_transform
from mutualnet.export import ArtifactInfo, InputScaling, scaling_graph, write_artifact
from mutualnet.models import create_model
from mutualnet.runtime import AdaptiveRunner, Artifact, device_name, load_session
from mutualnet.table import QueryTable, Row
from mutualnet.tasks.classification import Classification

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "ship.json", HERE.parent / "docs" / "shipping_costs.md"
COUNT = 20
"""Configurations of an artifact."""
COMPARED = (0, 9, 19)
"""Those that are exported by themselves too, by their place from the smallest to the largest."""
IMAGENET = ElasticSpace(width_range=(0.25, 1.0), resolutions=(224, 192, 160, 128))
CIFAR = ElasticSpace(width_range=(0.25, 1.0), resolutions=(32, 28, 24, 20))
NETWORKS: dict[str, tuple[str, dict[str, Any], int, ElasticSpace]] = {
    "mobilenetv1_100": ("mobilenetv1_100", {}, 1000, IMAGENET),
    "mobilenetv2_100": ("mobilenetv2_100", {}, 1000, IMAGENET),
    "resnet50": ("resnet50", {}, 1000, IMAGENET),
    "densenet121": ("densenet121", {}, 1000, IMAGENET),
    "wrn28_10": (
        "mutualnet.models.cifar:WideResNet",
        {"depth": 28, "width_factor": 10},
        100,
        CIFAR,
    ),
}


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Everything about one network."""
    model, arguments, num_classes, space = NETWORKS[name]
    torch.manual_seed(0)
    net = Supernet(create_model(model, num_classes=num_classes, **arguments), space).eval()
    side = space.resolutions[0]
    images = F.interpolate(torch.randn(4, 3, side // 8, side // 8), (side, side), mode="bicubic")
    grid = sorted(space.grid(), key=CostModel(net).macs)
    places = np.linspace(0, len(grid) - 1, COUNT).round().astype(int)
    subnets = [grid[place] for place in places]
    batch = (images, torch.zeros(len(images), dtype=torch.long))
    calibrate(net, [batch], subnets, task=Classification(), data_id="noise", num_samples=4)
    path = folder / f"{name}.mutualnet"
    start = time.perf_counter()
    _write(path, net, subnets, images, num_classes)
    seconds = time.perf_counter() - start
    artifact = Artifact.open(path, cache=folder / "cache")
    full = sum(4 * p.numel() for p in net.model.parameters())
    graphs = [artifact.folder / c.graph for c in artifact.manifest.configurations]
    static = {place: _static(net, subnets[place], folder) for place in COMPARED}
    separate = sum(
        4 * sum(p.numel() for p in net.extract(subnet).parameters()) for subnet in subnets
    )
    return {
        "full_bytes": full,
        "artifact_bytes": path.stat().st_size,
        "graph_bytes": int(np.median([graph.stat().st_size for graph in graphs])),
        "separate_bytes": separate,
        "export_seconds": round(seconds, 1),
        "max_difference": max(c.max_difference for c in artifact.manifest.configurations),
        "configurations": [
            {"subnet": str(subnets[place]), **_compared(artifact, subnets[place], file)}
            for place, file in static.items()
        ],
        **_cold_ratios(artifact),
        "memory_mib": _memory(path, folder),
    }


def _write(
    path: Path, net: Supernet, subnets: list[Subnet], images: torch.Tensor, num_classes: int
) -> None:
    costs = CostModel(net)
    rows = [
        Row(
            subnet=subnet,
            score=float(place),
            standard_error=1.0,
            num_samples=1,
            macs=costs.macs(subnet),
            params=costs.params(subnet),
        )
        for place, subnet in enumerate(subnets)
    ]
    info = ArtifactInfo(
        task="classification",
        class_names=tuple(map(str, range(num_classes))),
        preprocessing=photo_transform("imagefolder", images.shape[-1]),
        provenance={},
    )
    write_artifact(path, net, QueryTable.from_rows(rows), rows, info, images)


def _static(net: Supernet, subnet: Subnet, folder: Path) -> Path:
    """The network exported by itself, as anyone would."""
    module, path = net.extract(subnet).eval(), folder / "static" / f"{subnet}.onnx"
    path.parent.mkdir(exist_ok=True)
    images = torch.zeros(2, 3, subnet.resolution, subnet.resolution)
    dims = [{0: torch.export.Dim("batch")}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, (images,), dynamo=True, dynamic_shapes=dims, input_names=["images"]
        )
    assert program is not None
    program.save(path)
    return path


def _compared(artifact: Artifact, subnet: Subnet, static: Path) -> dict[str, float]:
    """Loading and running a configuration of the artifact and the separate export, in turns."""
    configuration = artifact.configuration(subnet)

    def ours() -> Any:
        return load_session(artifact, configuration, 1)

    def alone() -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        return onnxruntime.InferenceSession(static, options, providers=["CPUExecutionProvider"])

    loads: dict[str, list[float]] = {"ours": [], "alone": []}
    sessions: dict[str, Any] = {}
    for _ in range(5):
        for which, load in (
            ("ours", lambda: load_session(artifact, configuration, 1)),
            ("alone", alone),
        ):
            start = time.perf_counter()
            sessions[which] = load()
            loads[which].append(1e3 * (time.perf_counter() - start))
    side = artifact.manifest.resolution
    rng = np.random.default_rng(0)
    feeds = {
        "ours": rng.standard_normal((1, 3, side, side), np.float32),
        "alone": rng.standard_normal((1, 3, subnet.resolution, subnet.resolution), np.float32),
    }
    resize = _resize_ms(side, subnet.resolution, feeds["ours"])
    times: dict[str, list[float]] = {"ours": [], "alone": []}
    for turn in range(60):
        for which in ("ours", "alone") if turn % 2 else ("alone", "ours"):
            for run in range(3):
                start = time.perf_counter()
                sessions[which].run(None, {"images": feeds[which]})
                if run:
                    times[which].append(1e3 * (time.perf_counter() - start))
    ratios = np.array(times["ours"]) / (np.array(times["alone"]) + resize)
    return {
        "load_ms": round(float(np.median(loads["ours"])), 1),
        "load_alone_ms": round(float(np.median(loads["alone"])), 1),
        "ms": round(float(np.median(times["ours"])), 3),
        "alone_ms": round(float(np.median(times["alone"])), 3),
        "resize_ms": round(resize, 3),
        "ratio": round(float(np.median(ratios)), 3),
    }


def _resize_ms(side: int, resolution: int, images: np.ndarray) -> float:
    """What the resize takes by itself, which whoever runs a separate export does elsewhere."""
    if side == resolution:
        return 0.0
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    scaling = InputScaling(shape=(3, side, side), resolution=resolution)
    model = ir.to_proto(scaling_graph(scaling)).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    times = []
    for _ in range(100):
        start = time.perf_counter()
        session.run(None, {"images": images})
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


PAUSE = 0.005
"""Seconds without an inference after which the next one is timed."""


def _cold_ratios(artifact: Artifact) -> dict[str, float]:
    """First inferences over those that follow: after a switch, and after a pause without one."""
    runner = AdaptiveRunner(artifact, threads=1, max_loaded=COUNT)
    manifest = artifact.manifest
    inputs = np.zeros((1, 3, manifest.resolution, manifest.resolution), np.float32)
    for configuration in manifest.configurations:
        runner.logits(inputs, configuration.subnet)

    def timed(subnet: Subnet) -> float:
        start = time.perf_counter()
        runner.logits(inputs, subnet)
        return time.perf_counter() - start

    rng = np.random.default_rng(0)
    ratios: dict[str, list[float]] = {"switch_ratio": [], "pause_ratio": []}
    for place in rng.integers(len(manifest.configurations), size=100):
        subnet = manifest.configurations[place].subnet
        switched, *steady = (timed(subnet) for _ in range(5))
        time.sleep(PAUSE)
        paused = timed(subnet)
        ratios["switch_ratio"].append(switched / float(np.median(steady)))
        ratios["pause_ratio"].append(paused / float(np.median(steady)))
    return {name: round(float(np.median(found)), 3) for name, found in ratios.items()}


_MEMORY = """
import resource, sys
from mutualnet.runtime import AdaptiveRunner, Artifact
from pathlib import Path
import numpy as np
artifact = Artifact.open(sys.argv[1], cache=Path(sys.argv[2]))
runner = AdaptiveRunner(artifact, threads=1, max_loaded=int(sys.argv[3]))
side = artifact.manifest.resolution
for configuration in reversed(artifact.manifest.configurations):
    runner.logits(np.zeros((1, 3, side, side), np.float32), configuration.subnet)
pages = int(Path("/proc/self/statm").read_text().split()[1])
print(pages * resource.getpagesize() / 2**20)
"""


def _memory(path: Path, folder: Path) -> dict[str, float]:
    """Resident memory of a process after all configurations ran, by how many may be loaded."""
    found = {}
    for most in (1, 4, COUNT):
        words = [sys.executable, "-c", _MEMORY, path, folder / "cache", str(most)]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
        found[str(most)] = round(float(done.stdout), 0)
    return found


def page(results: dict[str, Any]) -> str:
    """The page, from what was measured."""
    lines = [
        "# What an artifact costs",
        "",
        "Written by `python benchmarks/ship.py --page` from `benchmarks/ship.json`, which the same",
        f"command measures: random weights, {COUNT} configurations from the smallest to the",
        f"largest, one image, one thread. {results['device']}, ONNX Runtime",
        f"{results['onnxruntime']}, torch {results['torch']}.",
        "",
        "| network | full network (MB) | artifact (MB) | ratio | separate files (MB) | "
        "a graph (kB) | export (s) | difference from PyTorch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    networks = results["networks"]
    for name, found in networks.items():
        ratio = found["artifact_bytes"] / found["full_bytes"]
        lines.append(
            f"| {name} | {found['full_bytes'] / 1e6:.1f} | {found['artifact_bytes'] / 1e6:.1f} | "
            f"{ratio:.3f} | {found['separate_bytes'] / 1e6:.0f} | "
            f"{found['graph_bytes'] / 1e3:.0f} | {found['export_seconds']:.0f} | "
            f"{found['max_difference']:.1e} |"
        )
    lines += [
        "",
        "A configuration of the artifact beside the same network exported by itself. The graph of",
        "the artifact takes images of the top resolution and resizes them; the other takes them",
        "resized, so the ratio is over its latency and that of the resize by itself.",
        "",
        "| network | configuration | load (ms) | by itself | latency (ms) | by itself | resize | "
        "ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in networks.items():
        lines += [
            f"| {name} | {c['subnet']} | {c['load_ms']:.0f} | {c['load_alone_ms']:.0f} | "
            f"{c['ms']:.2f} | {c['alone_ms']:.2f} | {c['resize_ms']:.2f} | {c['ratio']:.3f} |"
            for c in found["configurations"]
        ]
    lines += [
        "",
        "Switch: the first inference after a switch to a loaded configuration, over those that "
        "follow (medians, configurations at random). Pause:",
        f"the first one after {1e3 * PAUSE:.0f} ms without any, of the same configuration. Both "
        "find cold caches, and the shorter an inference is the more that counts. Memory: of the",
        "whole process after every configuration ran, by how many may be loaded (`max_loaded`).",
        "",
        f"| network | switch | pause | MiB with 1 | with 4 | with {COUNT} |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in networks.items():
        memory = found["memory_mib"]
        lines.append(
            f"| {name} | {found['switch_ratio']:.2f} | {found['pause_ratio']:.2f} | "
            + " | ".join(f"{memory[most]:.0f}" for most in ("1", "4", str(COUNT)))
            + " |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure networks, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--page", action="store_true", help="write the page; measures nothing")
    words = parser.parse_args()
    unknown = [name for name in words.networks if name not in NETWORKS]
    if unknown:
        parser.error(f"unknown network {unknown[0]!r}, choose from {', '.join(NETWORKS)}")
    logging.basicConfig(level=logging.INFO)
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"networks": {}}
    if not words.page:
        torch.set_flush_denormal(True)
        for name in words.networks or NETWORKS:
            with tempfile.TemporaryDirectory() as folder:
                known["networks"][name] = measure(name, Path(folder))
            known |= {
                "device": device_name(),
                "onnxruntime": onnxruntime.__version__,
                "torch": torch.__version__,
            }
            RESULTS.write_text(json.dumps(known, indent=1) + "\n")
            print(name, json.dumps(known["networks"][name]), flush=True)
    PAGE.write_text(page(known))


if __name__ == "__main__":
    main()
