"""The terminal that commands print to."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from mutualnet.messages import printable


def make_console() -> Console:
    """A console for standard output: what it prints is text, and no markup or emoji code."""
    return _PlainConsole(markup=False, emoji=False, highlight=False, soft_wrap=True)


class _PlainConsole(Console):
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)
