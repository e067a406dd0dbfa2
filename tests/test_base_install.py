"""The built wheel with numpy and nothing else, as a device has it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy
import pytest
from PIL import Image

from tests.small_artifact import NAMES, picture, small_artifact

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
    commands = (
        "demo",
        "recipes",
        "train",
        "table",
        "predict",
        "export",
        "run",
        "measure",
        "evaluate",
    )
    for command in (*commands, "plan", "info"):
        assert f"\n    {command} " in listed


@pytest.mark.parametrize(
    "words",
    [
        "train x",
        "recipes",
        "table x",
        "predict x y",
        "export x",
        "info x",
        "report x",
        "plan x --budgets 1M",
    ],
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


@pytest.mark.parametrize(
    "words", ["run m.mutualnet a.png", "measure m.mutualnet", "evaluate m.mutualnet photos"]
)
def test_what_a_device_runs_needs_the_runtime_only(programs, words):
    done = _run(programs / "mutualnet", *words.split())
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'mutualnet[runtime]'" in done.stderr


@pytest.fixture(scope="module")
def device(programs, tmp_path_factory):
    """The same with what `mutualnet[runtime]` adds; nothing is fetched either."""
    (packages,) = (programs.parent / "lib").glob("*/site-packages")
    place = tmp_path_factory.mktemp("device")
    for name in ("onnxruntime", "PIL", "pillow.libs", "flatbuffers", "google", "packaging"):
        for folder in Path(numpy.__file__).parents[1].glob(name):
            (place / folder.name).symlink_to(folder)
    for folder in packages.iterdir():
        if not (place / folder.name).exists():
            (place / folder.name).symlink_to(folder)
    return place


def test_an_artifact_runs_without_pytorch(programs, device, tmp_path):
    """Every command that a device has, by the wheel, where torch cannot be imported."""
    Image.fromarray(picture()).save(tmp_path / "a.png")
    for name in NAMES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(picture()).save(tmp_path / "photos" / name / "a.png")
    artifact = small_artifact(tmp_path)
    environment = {"PYTHONPATH": str(device), "MUTUALNET_CACHE": str(tmp_path / "cache")}

    def run(*words):
        code = (
            "import sys; from mutualnet.cli import main; status = main(sys.argv[1:]); "
            "assert 'torch' not in sys.modules; sys.exit(status)"
        )
        return subprocess.run(
            [programs / "python", "-c", code, *map(str, words)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
        )

    for words in (
        ["measure", artifact, "--runs", "5"],
        ["run", artifact, tmp_path / "a.png", "--budget", "9s"],
        ["info", artifact],
    ):
        done = run(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
    done = run("evaluate", artifact, tmp_path / "photos")
    assert (done.returncode, done.stderr) == (0, "scoring 4 configurations ...\n")
    done = run("predict", "run", "a.png")
    assert done.returncode == 2
    assert "torch is not installed" in done.stderr
