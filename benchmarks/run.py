"""Measure everything that `docs/performance.md` states, and write it there.

    python benchmarks/run.py                 # all sections, about half an hour on two cores
    python benchmarks/run.py step memory     # some of them; the others keep their last numbers
    python benchmarks/run.py --page          # the page, from results.json

Numbers are only good on a machine that does nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "performance.md"


def _processor() -> str:
    from mutualnet.runtime import device_name

    facts = Path("/proc/cpuinfo")
    has_amx = facts.is_file() and "amx_bf16" in facts.read_text()
    return device_name() + (" with AMX" if has_amx else "")


def _machine() -> dict[str, str]:
    import torch

    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def _step() -> list[list[str]]:
    from benchmarks.step import CASES, fixed_ratio

    rows = []
    for case in CASES:
        ratio = fixed_ratio(case)
        rows.append([case.name, f"{ratio.seconds:.3f}", str(ratio), f"<= {case.limit}"])
        print(rows[-1], flush=True)
    return rows


def _random() -> list[list[str]]:
    from benchmarks.step import CASES, random_ratio

    rows = []
    for case in CASES:
        ratio = random_ratio(case)
        rows.append([case.name, str(ratio.num_pairs), str(ratio), f"<= {case.limit}"])
        print(rows[-1], flush=True)
    return rows


def _format() -> list[list[str]]:
    import torch

    from benchmarks.step import CASES, format_ratio

    formats = [
        ("fp32 channels_last", torch.channels_last, None),
        ("bf16 contiguous", torch.contiguous_format, torch.bfloat16),
        ("bf16 channels_last", torch.channels_last, torch.bfloat16),
    ]
    rows = []
    for case in CASES:
        for name, layout, precision in formats:
            ratio = format_ratio(case, layout, precision)
            rows.append([case.name, name, f"{ratio.seconds:.3f}", str(ratio)])
            print(rows[-1], flush=True)
    return rows


def _denormals() -> list[list[str]]:
    """Each in a process of its own: the flag is per thread and inherited at creation."""
    rows = []
    for number, name in ((0, "MobileNet v1, batch 16 at 224"), (1, "WRN-16-4, batch 64 at 32")):
        seconds = {}
        for flush in ("0", "1"):
            command = [sys.executable, str(ROOT / "benchmarks" / "denormals.py"), str(number)]
            done = subprocess.run(
                [*command, flush], capture_output=True, text=True, check=True, cwd=ROOT
            )
            seconds[flush] = float(done.stdout.split()[-1])
        speed_up = seconds["0"] / seconds["1"]
        rows.append([name, f"{seconds['0']:.3f}", f"{seconds['1']:.3f}", f"{speed_up:.2f}"])
        print(rows[-1], flush=True)
    return rows


def _switch() -> list[list[str]]:
    import timm

    from benchmarks.switching import creation_ms, switch_ratio
    from mutualnet.models import wrn16_4

    rows = []
    for name in ("mobilenetv1_100", "resnet50"):
        ratio = switch_ratio(partial(timm.create_model, name))
        rows.append([f"first inference after a switch / steady, {name}", f"{ratio:.3f}", "<= 1.1"])
        print(rows[-1], flush=True)
    builders = {
        "mobilenetv1_100": lambda: timm.create_model("mobilenetv1_100"),
        "resnet50": lambda: timm.create_model("resnet50"),
        "densenet121": lambda: timm.create_model("densenet121"),
        "wrn16_4": wrn16_4,
    }
    for name, build in builders.items():
        trace_s, new_ms = creation_ms(build)
        limits = ("< 3 s", "< 50 ms") if name == "resnet50" else ("", "")
        rows.append([f"tracing {name}", f"{trace_s:.2f} s", limits[0]])
        rows.append([f"a sub-network of a new width, {name}", f"{new_ms:.1f} ms", limits[1]])
        print(rows[-2:], flush=True)
    return rows


def _memory() -> list[list[str]]:
    from benchmarks.switching import memory_of_64

    found = memory_of_64()
    return [
        ["weight bytes added", f"{found['weight_bytes_added']:.0f}", "0"],
        ["Python heap per module", f"{found['python_mib_per_module']:.2f} MiB", "<= 0.6 MiB"],
        ["BN buffers of the 64 modules", f"{found['buffer_mib']:.1f} MiB", ""],
        ["bank of 64 entries", f"{found['bank_mib']:.1f} MiB", ""],
    ]


def _table() -> list[list[str]]:
    from benchmarks.tables import table_efficiency

    found = table_efficiency()
    return [
        ["decoding a batch (D)", f"{found['decode_ms']:.1f} ms", ""],
        ["mean forward pass (C)", f"{found['forward_ms']:.1f} ms", ""],
        ["speed-up over 64 passes", f"{found['speed_up']:.2f}", f"bound {found['bound']:.2f}"],
        ["share of the bound", f"{found['share_of_bound']:.3f}", ">= 0.95"],
    ]


def _pipeline() -> list[list[str]]:
    from benchmarks.pipeline import pipeline_ratio

    rows = []
    for workers in (0, 2):
        rate, ratio = pipeline_ratio(workers)
        rows.append([str(workers), f"{rate:.0f}", str(ratio)])
        print(rows[-1], flush=True)
    return rows


def _processes() -> list[list[str]]:
    """Each count of processes in processes of its own."""
    script = str(ROOT / "benchmarks" / "two_processes.py")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    rows = []
    for what, words in (
        ("1 process, 2 threads", [script, "2"]),
        ("2 processes, 1 thread each", [*torchrun, script, "1"]),
    ):
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, check=True, cwd=ROOT
        )
        rows.append([what, f"{float(done.stdout.split()[-1]):.3f}"])
        print(rows[-1], flush=True)
    return rows


def _peers() -> list[list[str]]:
    from benchmarks.peer_steps import CASES, step_ratio

    rows = []
    for case in CASES:
        ratio = step_ratio(case)
        rows.append([case.name, f"{ratio.seconds:.3f}", str(ratio), "<= 1.03"])
        print(rows[-1], flush=True)
    return rows


def _peer_memory() -> list[list[str]]:
    """Each in a process of its own, whose peak it is."""
    from benchmarks.peer_steps import MEMORY

    script = str(ROOT / "benchmarks" / "peer_steps.py")
    rows = []
    for what in MEMORY:
        done = subprocess.run(
            [sys.executable, script, what], capture_output=True, text=True, check=True, cwd=ROOT
        )
        rows.append([what, done.stdout.split()[-1]])
        print(rows[-1], flush=True)
    return rows


SECTIONS: dict[str, tuple[str, list[str], Callable[[], list[list[str]]]]] = {
    "step": (
        "Time of one mutual step, relative to plain dense networks",
        ["network", "s/step", "ratio [95 % interval], 11 pairs", "aim"],
        _step,
    ),
    "random": (
        "The same over random draws, including the making of new sub-networks",
        ["network", "draws", "ratio [95 % interval]", "aim"],
        _random,
    ),
    "format": (
        "Number formats and memory layouts, relative to fp32 NCHW (denormals flushed)",
        ["network", "format", "s/step", "ratio [95 % interval], 11 pairs"],
        _format,
    ),
    "denormals": (
        "bf16 channels_last with denormals flushed, beside fp32 NCHW with denormals kept",
        ["network", "fp32 NCHW, kept (s/step)", "bf16, flushed (s/step)", "speed-up"],
        _denormals,
    ),
    "switch": ("Switching and making sub-networks", ["what", "measured", "aim"], _switch),
    "table": (
        "Calibrating and scoring 16 widths x 4 resolutions in one pass",
        ["what", "measured", "aim"],
        _table,
    ),
    "pipeline": (
        "Input pipeline of photos: one crop that the step scales, relative to four sizes per image",
        ["workers", "images/s", "time ratio [95 % interval], 11 pairs"],
        _pipeline,
    ),
    "processes": (
        "One mutual step of WRN-16-4 on 128 images, by number of processes",
        ["processes", "s/step (median of 11)"],
        _processes,
    ),
    "peers": (
        "One step of networks that teach each other, relative to their plain passes",
        ["networks", "s/step", "ratio [95 % interval], 11 pairs", "aim"],
        _peers,
    ),
    "peer_memory": (
        "Peak memory of the process: two WRN-28-4, batch 64 at 32 px, fp32",
        ["step", "MiB"],
        _peer_memory,
    ),
    "memory": ("Memory of 64 sub-networks of MobileNet v1", ["what", "measured", "aim"], _memory),
}

NOTES = {
    "denormals": """\
Medians of seven steps, each side in a process of its own. The first section has fp32 NCHW with
denormals flushed, at about these times: most of the speed-up is the format, and these first steps
on noise do not show what denormals cost later in a training.""",
    "table": """\
64 separate passes over the data are not run: each batch would take them 64 (C + D).""",
}
"""What a section's table does not say."""

INTRODUCTION = """# Performance

Written by `make bench` (`python benchmarks/run.py`). A ratio with an interval is the median of
pairs, whose two sides are timed one after the other in one process, in alternating order; but for
the input pipeline, inputs are made beforehand. Denormals are flushed and the allocator's thresholds
are fixed: with its defaults, glibc returns large buffers to the system and faults them in again,
which spreads the medians from 0.94 to 1.15.

A mutual step is compared with a baseline: plain, contiguous, dense networks of the same four shapes
with the same losses, and one optimizer step of the full one.
"""


def page(results: dict[str, Any]) -> str:
    """The page, from what was measured.

    Args:
        results: Rows by section; in `machines`, what each section was measured on.
    """
    known = {name: results[name] for name in SECTIONS if name in results}
    machines = {name: _machine_line(results["machines"][name]) for name in known}
    is_one = len(set(machines.values())) == 1
    lines = [INTRODUCTION, *(set(machines.values()) if is_one else ())]
    for name, rows in known.items():
        title, header, _ = SECTIONS[name]
        lines += ["", f"## {title}", "", f"`python benchmarks/run.py {name}`", ""]
        lines += [NOTES[name], ""] if name in NOTES else []
        lines += [] if is_one else [machines[name], ""]
        lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _machine_line(machine: dict[str, str]) -> str:
    return "Machine: " + ", ".join(f"{k} {v}" for k, v in machine.items()) + "."


def _measure(name: str) -> None:
    """Run one section in this process and keep its numbers."""
    from mutualnet.cpu import flush_denormals, tune_allocator

    tune_allocator()
    flush_denormals()
    print(f"== {name}", flush=True)
    rows = SECTIONS[name][2]()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"machines": {}}
    results[name] = rows
    results["machines"][name] = _machine()
    print(*rows, sep="\n", flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))


def main() -> None:
    """Run the named sections, each in a process of its own: a used heap slows the next."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--here", action="store_true", help="measure in this process")
    parser.add_argument("--page", action="store_true", help="write the page; measures nothing")
    words = parser.parse_args()
    if words.page:
        PAGE.write_text(page(json.loads(RESULTS.read_text())))
        return
    chosen = words.sections or list(SECTIONS)
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]!r}, choose from {', '.join(SECTIONS)}")
    for name in chosen:
        if words.here:
            _measure(name)
        else:
            command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--here", name]
            subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
