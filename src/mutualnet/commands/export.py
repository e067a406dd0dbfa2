"""`mutualnet export`: a run as one file that a device runs at any budget."""

from __future__ import annotations

from pathlib import Path

from mutualnet.console import make_console
from mutualnet.cpu import prepare_cpu
from mutualnet.run_directory import load_run


def export(
    path: Path,
    out: Path | None = None,
    *,
    configurations: str = "front",
    kind: str | None = None,
    data: str | None = None,
    is_measured: bool = True,
    int8: bool = False,
    private_key: Path | None = None,
    trust: bool = False,
) -> None:
    """Export a run to one file that a device runs at any budget, or one configuration by itself.

    Args:
        path: The run.
        out: File to write; by default named like the run, in the working folder.
        configurations: As for `export_run`.
        kind: As for `export_run`.
        data: As for `export_run`.
        is_measured: Whether to time the artifact's configurations on this machine.
        int8: Add quantised variants of the configurations, and keep those that are worth it.
        private_key: File with an Ed25519 key to sign the artifact by.
        trust: As for `load_run`.
    """
    from mutualnet.device_commands import time_artifact
    from mutualnet.export import SUFFIX, SUFFIXES, export_run, keep_front
    from mutualnet.runtime import Artifact, sign

    prepare_cpu()
    if kind is not None and kind not in SUFFIXES:
        raise ValueError(f"--format must be one of {', '.join(SUFFIXES)}, got {kind!r}")
    if int8 and not is_measured:
        raise ValueError(
            "--int8 keeps the variants that are on the front of score over latency, so it must "
            "measure: leave --no-measure out"
        )
    if private_key is not None:
        if kind is not None:
            raise ValueError(f"--sign is for artifacts, got --format {kind}")
        sign(b"", private_key)  # a wrong key is told before anything is exported
    run, console = load_run(path, trust=trust), make_console()
    suffix = SUFFIX if kind is None else SUFFIXES[kind]
    place = out or Path(f"{path.resolve().name}{suffix}")
    export_run(
        run,
        place,
        configurations=configurations,
        kind=kind,
        data=data,
        int8=int8,
        say=console.print,
    )
    console.print(f"written: {place}, {place.stat().st_size / 2**20:.2f} MiB")
    if kind is None and is_measured:
        time_artifact(place)
    if int8:
        keep_front(Artifact.open(place), console.print)
    if private_key is not None:
        Artifact.open(place).signed(private_key)
    if int8 or private_key is not None:
        console.print(f"written: {place}, {place.stat().st_size / 2**20:.2f} MiB")
