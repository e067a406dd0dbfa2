"""`run.json`: what a run says of itself, and the mark that it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mutualnet.checksums import whole_files
from mutualnet.run_directory.files import CONFIG, INFO, WEIGHTS, network_name

FORMAT_VERSION = 1
_RUN, _PEERS = "mutualnet.run", "mutualnet.peers"
"""What it is about: one network, or several."""
_NEEDED: dict[str, dict[str, type]] = {
    _RUN: {"class_names": list, "in_channels": int, "data_id": str},
    _PEERS: {"networks": list},
}
"""What `run.json` must hold."""


def write_run_info(path: Path, run_info: dict[str, Any]) -> None:
    """Mark the run of one network as whole, when all else is written."""
    _write(path, _RUN, run_info)


def write_peers_info(path: Path, count: int, run_info: dict[str, Any]) -> None:
    """Mark a run of several networks as whole: each of them is a run of its own inside."""
    names = [network_name(number) for number in range(count)]
    _write(path, _PEERS, {**run_info, "networks": names})


def _write(path: Path, kind: str, run_info: dict[str, Any]) -> None:
    content = {"format": kind, "format_version": FORMAT_VERSION, **run_info}
    (path / INFO).write_text(json.dumps(content, indent=1) + "\n")


def networks_of(path: Path) -> list[Path]:
    """The runs of a finished run's networks: itself, or one for each of several."""
    run_info = read_run_info(path)
    if run_info["format"] == _RUN:
        return [path]
    return [path / name for name in run_info["networks"]]


def info_of_one(path: Path) -> dict[str, Any]:
    """What `run.json` says of the run of one network.

    Raises:
        ValueError: If there is no whole run, `run.json` is damaged, or the run holds several
            networks.
    """
    run_info = read_run_info(path)
    if run_info["format"] == _PEERS:
        places = ", ".join(str(path / name) for name in run_info["networks"])
        raise ValueError(f"{path} holds several networks; name one of them: {places}")
    return run_info


def read_run_info(path: Path) -> dict[str, Any]:
    """What `run.json` of a finished run says, of one network or of several.

    Raises:
        ValueError: If there is no whole run, or `run.json` is damaged.
    """
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise ValueError(f"{path} must be a run directory that `mutualnet train` made, got {found}")
    if path.name.endswith(".partial"):
        raise ValueError(f"{path} is a run that was not finished. Go on with it by --resume.")
    for name in (CONFIG, INFO):
        if not (path / name).is_file():
            raise _missing(path, name)
    files = whole_files(path, [CONFIG, INFO])
    try:
        run_info = json.loads(files[INFO].read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path / INFO} is damaged ({error}). Train again.") from None
    if not isinstance(run_info, dict) or run_info.get("format") not in (_RUN, _PEERS):
        raise ValueError(f"{path / INFO} was not written by `mutualnet train`")
    if run_info.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has run format {run_info.get('format_version')}, this version reads "
            f"{FORMAT_VERSION}. Train again, or use the version of mutualnet that wrote it."
        )
    for key, kind in _NEEDED[run_info["format"]].items():
        value = run_info.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):  # which Python counts as int
            raise ValueError(f"{path / INFO} is damaged (no {key}). Train again.")
    for key in ("networks", "class_names"):
        wrong = [name for name in run_info.get(key, ()) if not isinstance(name, str)]
        if wrong:
            raise ValueError(
                f"{path / INFO} is damaged ({key} must be text, got {wrong[0]!r:.80}). Train again."
            )
    if run_info["format"] == _PEERS:
        expected = [network_name(number) for number in range(len(run_info["networks"]))]
        if run_info["networks"] != expected:
            raise ValueError(f"{path / INFO} is damaged (no networks). Train again.")
    if run_info["format"] == _RUN and not (path / WEIGHTS).is_file():
        raise _missing(path, WEIGHTS)
    return run_info


def _missing(path: Path, name: str) -> ValueError:
    return ValueError(
        f"{path} must be a whole run directory, but has no {name}. Train again with "
        "`mutualnet train RECIPE --out DIRECTORY`."
    )
