"""`mutualnet export`: a run as one file that a device runs at any budget."""

from __future__ import annotations

from functools import partial
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

    The file is there once all is done, in place of an earlier one.

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
    from mutualnet.export import SUFFIX, SUFFIXES, check_place, export_run, keep_front
    from mutualnet.runtime import Artifact, replaced_when_whole, sign

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
    write = partial(
        export_run, run, configurations=configurations, kind=kind, data=data, say=console.print
    )
    if run.table is not None:  # else that is what is told
        check_place(place, kind)
    if kind is not None:
        write(out=place, int8=int8)
    else:
        with replaced_when_whole(place) as new:
            write(out=new, int8=int8)
            if is_measured:
                time_artifact(new, name=place)
            if int8:
                keep_front(Artifact.open(new), console.print)
            if private_key is not None:
                Artifact.open(new).signed(private_key)
    console.print(f"written: {place}, {place.stat().st_size / 2**20:.2f} MiB")
