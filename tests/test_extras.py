"""The extras of `pyproject.toml` are what the code imports, and no more."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UNSEEN = {"tensorboard"}
"""Needed by what others import: `torch.utils.tensorboard`."""


def _imported(folder: str) -> set[str]:
    """Distributions of other people's modules that a folder's files import, anywhere in them."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    modules = {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names)
    known = packages_distributions()
    ours = {"mutualnet", "benchmarks", "tests"}
    return {_plain(known.get(module, [module])[0]) for module in modules - ours}


def _plain(requirement: str) -> str:
    return re.split(r"[\[<>=~! ;]", requirement)[0].lower().replace("_", "-")


def _required(*extras: str) -> set[str]:
    lists = [PROJECT["optional-dependencies"][extra] for extra in extras]
    return {_plain(word) for words in [PROJECT["dependencies"], *lists] for word in words}


def test_extras_hold_what_the_library_imports_and_nothing_else():
    extras = [name for name in PROJECT["optional-dependencies"] if name not in ("all", "dev")]
    assert _required(*extras) == _imported("src/mutualnet") | UNSEEN
    assert PROJECT["optional-dependencies"]["all"] == [f"mutualnet[{','.join(extras)}]"]


def test_tests_and_benchmarks_import_what_make_installs():
    words = (ROOT / "Makefile").read_text()
    extras = set(re.findall(r"-e '\.\[([\w,]+)\]'", words))
    assert len(extras) == 1
    installed = _required(*extras.pop().split(","))
    assert _imported("tests") | _imported("benchmarks") <= installed
