"""The code of README and docs runs, and their links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest

from benchmarks import ship
from mutualnet.cli.parser import join_negative_values
from mutualnet.cli.words import make_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", [p for p in PAGES if _blocks(p)], ids=lambda p: p.name)
@pytest.mark.filterwarnings("ignore:grad and param")
def test_code_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in _blocks(page):
        exec(compile(block, str(page), "exec", dont_inherit=True), {"__name__": "docs"})


def _commands(page: Path) -> list[list[str]]:
    """Words of every `mutualnet` command line."""
    text = "\n".join(re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL))
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("mutualnet ")]
    return [list(takewhile(lambda word: word not in ("&&", "|", ">"), line[1:])) for line in words]


@pytest.mark.parametrize("page", [p for p in PAGES if _commands(p)], ids=lambda p: p.name)
def test_commands_are_understood(page):
    for words in _commands(page):
        make_parser().parse_args(join_negative_values(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_inside_the_repository_exist(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_readmes_layout_table_names_every_module():
    table = (ROOT / "README.md").read_text().split("## Where things are")[1]
    for path in (ROOT / "src" / "mutualnet").iterdir():
        name = path.stem if path.suffix == ".py" else f"{path.name}/"
        if path.is_dir() and not (path / "__init__.py").exists():
            continue
        if not name.startswith("__") and path.suffix in (".py", ""):
            assert f"`{name}`" in table, name


def test_the_reference_is_current():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "reference.md").read_text() == module.page(), "run make docs"


def test_shipping_costs_are_those_that_were_measured():
    results = json.loads(ship.RESULTS.read_text())
    assert ship.PAGE.read_text() == ship.page(results), "run benchmarks/ship.py --page"
