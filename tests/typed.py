"""What tests type, and what they are told."""

from __future__ import annotations

import pytest

from mutualnet.cli import main

SMALL = ["compute.precision=fp32", "compute.memory_format=contiguous"]
"""Settings that need no probe of the machine."""


def complaint(capsys: pytest.CaptureFixture[str], words: list[str], status: int = 2) -> str:
    """What a command that fails says: one line, no traceback."""
    capsys.readouterr()
    assert main(words) == status
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("mutualnet: ")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    return lines[0]
