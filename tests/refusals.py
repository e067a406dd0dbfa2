"""What a command says of a user's mistake."""

from __future__ import annotations


def the_one_line(written: str) -> str:
    """The only line of the command's own in what went to standard error."""
    lines = [line for line in written.splitlines() if "mutualnet: " in line]
    assert len(lines) == 1, written
    return lines[0]
