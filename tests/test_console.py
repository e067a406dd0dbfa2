"""The terminal takes names as they are."""

from __future__ import annotations

import pytest
from rich.table import Table

from mutualnet.console import make_console
from tests.fixtures import ODD_NAMES


@pytest.mark.parametrize("name", [*ODD_NAMES, "[/]", "\\[bold]"])
def test_markup_in_a_name_is_text(name, capsys):
    console = make_console()
    console.print(f"  {name}: cat")
    table = Table(name, title=name)
    table.add_row(name)
    console.print(table)
    out = capsys.readouterr().out
    assert f"  {name}: cat\n" in out
    assert out.count(name) == 4
