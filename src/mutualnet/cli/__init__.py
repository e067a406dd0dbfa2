"""The command line: `words` says what can be typed, `calls` runs it, `main` reports errors."""

from __future__ import annotations

from mutualnet.cli.main import main

__all__ = ["main"]
