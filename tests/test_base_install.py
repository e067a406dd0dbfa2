"""The built wheel with numpy and nothing else, as a device has it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).resolve().parents[1]


def _run(*words) -> subprocess.CompletedProcess[str]:
    return subprocess.run(map(str, words), capture_output=True, text=True, cwd=ROOT, timeout=60)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The folder of an environment's programs. Nothing is fetched: its numpy is the one here."""
    place = tmp_path_factory.mktemp("base")
    build = _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place)
    assert build.returncode == 0, build.stderr
    (wheel,) = place.glob("*.whl")
    uv = shutil.which("uv")
    venv.create(place / "env", with_pip=uv is None, symlinks=True)
    programs = place / "env" / "bin"
    installer = [uv, "pip"] if uv else [programs / "python", "-m", "pip"]
    python = ["--python", programs / "python"] if uv else []
    done = _run(*installer, "install", *python, "--no-index", "--no-deps", wheel)
    assert done.returncode == 0, done.stderr
    (packages,) = (place / "env" / "lib").glob("*/site-packages")
    for folder in Path(numpy.__file__).parents[1].glob("numpy*"):
        (packages / folder.name).symlink_to(folder)
    return programs


def test_the_package_can_be_imported_and_says_what_training_needs(programs):
    code = "import mutualnet; mutualnet.Subnet(); mutualnet.QueryTable; mutualnet.Supernet"
    done = _run(programs / "python", "-c", code)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: mutualnet.Supernet needs torch, which is not installed.")
    assert last.endswith("pip install 'mutualnet[train]'")


def test_help_and_version_need_nothing(programs):
    for words in (["--help"], ["train", "--help"], ["--version"]):
        done = _run(programs / "mutualnet", *words)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert "mutualnet" in done.stdout
    listed = _run(programs / "mutualnet", "--help").stdout
    for command in ("demo", "recipes", "train", "table", "predict", "plan", "info"):
        assert f"\n    {command} " in listed


@pytest.mark.parametrize(
    "words", ["train x", "recipes", "table x", "predict x y", "info x", "plan x --budgets 1M"]
)
def test_what_needs_more_says_in_one_line_what_to_install(programs, words):
    done = _run(programs / "mutualnet", *words.split())
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is not installed" in done.stderr
    assert "pip install 'mutualnet[train]'" in done.stderr


def test_a_wrong_word_is_named_before_anything_is_needed(programs):
    done = _run(programs / "mutualnet", "train", "x", "--epochs", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("mutualnet: --epochs must be a whole number >= 1, got '0'")
