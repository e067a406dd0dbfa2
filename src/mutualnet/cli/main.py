"""A command from its words to its exit status, and one clear line for what a user got wrong."""

from __future__ import annotations

import io
import logging
import os
import re
import select
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from mutualnet.cli.calls import CALLS
from mutualnet.cli.parser import WordsError, join_negative_values
from mutualnet.cli.words import make_parser
from mutualnet.messages import LogFormatter, ReportedElsewhereError, printable

_FAILED, _USER_ERROR, _INTERRUPTED = 1, 2, 130
_NO_MEMORY = "out of memory|alloc.* memory"
"""How PyTorch reports it."""


_EXTRAS = {
    "runtime": ("onnxruntime", "PIL"),
    "signing": ("cryptography",),
    "export": ("onnx", "onnx_ir", "onnxscript", "openvino"),
}
"""Packages of the extras that devices and exports need."""


def _complain(error: BaseException | str) -> None:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Traceback" in str(error):  # a loader's worker reports all of it; its last line says what
        lines = [lines[-1].partition("Error: ")[2] or lines[-1]]
    notes = getattr(error, "__notes__", [])
    print(printable(" ".join(["mutualnet:", *lines, *notes])), file=sys.stderr)


def _how_to_install(package: str) -> str:
    for extra, packages in _EXTRAS.items():
        if package in packages:
            return (
                f"{package} is not installed, which this command needs: "
                f"pip install 'mutualnet[{extra}]'"
            )
    return (
        f"{package} is not installed. The base install is for devices; to train and for all "
        "commands: pip install 'mutualnet[train]'"
    )


def _prepare_streams() -> None:
    """Let everything be printed: to closed streams, and in encodings that lack some signs."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _nobody_reads() -> bool:
    """Whether what reads the output has ended, as `head` does; what is left is then dropped."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        is_closed = True
    else:  # without a buffer nothing was left to write
        is_closed = _is_closed(sys.stdout)
    if is_closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return is_closed


def _is_closed(stream: TextIO) -> bool:
    """Whether the other end of a pipe is closed, as far as the system tells."""
    if not hasattr(select, "poll"):  # Windows
        return False
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # no file
        return False
    poll = select.poll()
    poll.register(number, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    What a user can cause (a wrong word, a missing file, a budget that nothing meets) ends with one
    line and exit status 2. Errors of our own keep their traceback.

    Args:
        arguments: Words after `mutualnet`; those of the process by default.

    Returns:
        Exit status: 0, 1 if training failed or nobody reads the output, 2 for a user's mistake, 130
        if interrupted.
    """
    _prepare_streams()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    for chatty in ("matplotlib", "PIL", "fsspec", "lightning", "py.warnings"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        given = sys.argv[1:] if arguments is None else arguments
        words = make_parser().parse_args(join_negative_values(given))
        CALLS[words.command](words)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", [])
        print(printable(" ".join(["mutualnet: interrupted.", *notes])), file=sys.stderr)
        return _INTERRUPTED
    except WordsError as error:
        _complain(error)
        return _USER_ERROR
    except ReportedElsewhereError:
        return _USER_ERROR
    except (ValueError, FileNotFoundError, PermissionError, IsADirectoryError) as error:
        _complain(error)
        return _USER_ERROR
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "mutualnet":
            raise
        _complain(_how_to_install(error.name.partition(".")[0]))
        return _USER_ERROR
    except OSError as error:  # a full disk, a vanished mount
        if not (isinstance(error, BrokenPipeError) and _nobody_reads()):
            _complain(error)
        return _FAILED
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or re.search(_NO_MEMORY, str(error)):
            lines = str(error).splitlines() or ["none is left"]
            _complain(f"memory is exhausted ({lines[0]}). Use smaller images or batches.")
            return _USER_ERROR
        if not type(error).__module__.startswith("mutualnet."):
            raise
        _complain(error)
        return _FAILED
    return 0
