"""`mutualnet recipes`: what can be trained."""

from __future__ import annotations

from rich.text import Text

from mutualnet.console import make_console
from mutualnet.recipes import RECIPES


def list_recipes() -> None:
    """Print every recipe with its line."""
    console, width = make_console(), max(map(len, RECIPES)) + 2
    for name, function in RECIPES.items():
        console.print(Text.assemble((f"{name:<{width}}", "bold"), function().description))
