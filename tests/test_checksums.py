"""Damage to a run's files is found, and several files change at once."""

from __future__ import annotations

import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from mutualnet import checksums
from mutualnet.checksums import CHECKSUMS, replaced_files, whole_files, write_checksums
from mutualnet.cli import main
from mutualnet.pretrained import read_weights
from mutualnet.run_directory import load_run, networks_of
from mutualnet.training.train import train
from tests.small_runs import digits, pair

NAMES = ("a.txt", "b.txt")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of one step, with a table of one row."""
    settings = ["space.resolutions=[12]", "space.width_range=[1.0, 1.0]", "table.latency_runs=0"]
    recipe = digits(*settings, "table.num_calibration_samples=64")
    out = train(recipe, tmp_path_factory.mktemp("runs") / "run", limit_steps=1)
    assert main(["table", str(out)]) == 0
    return out


@pytest.fixture
def run(made, tmp_path):
    for path in made.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


FILES = (
    "config.yaml",
    "run.json",
    "weights.safetensors",
    "format.json",
    "table.json",
    "table.csv",
    "bn_bank.safetensors",
    "frontier.png",
)


def _flip(path, *places):
    content = bytearray(path.read_bytes())
    for place in places:
        content[place] ^= 1
    path.write_bytes(content)


def test_every_file_but_the_logs_has_a_checksum(made):
    assert {path.name for path in made.iterdir() if path.is_file()} == {*FILES, CHECKSUMS}
    listed = (made / CHECKSUMS).read_text()
    assert sorted(line.split("  ")[1] for line in listed.splitlines()) == sorted(FILES)
    subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=made, check=True)
    assert load_run(made).table is not None


@pytest.mark.parametrize("name", FILES)
def test_two_flipped_bits_are_refused_by_the_files_name(run, name, capsys):
    size = (run / name).stat().st_size
    _flip(run / name, size - 3, size // 2)
    with pytest.raises(ValueError, match=rf"{name} is damaged: its SHA-256"):
        load_run(run)
    assert main(["predict", str(run), __file__]) == 2
    assert f"{name} is damaged" in capsys.readouterr().err


def test_damage_to_the_checksums_is_refused(run):
    content = (run / CHECKSUMS).read_bytes()
    for place in range(0, len(content), 7):
        (run / CHECKSUMS).write_bytes(content)
        _flip(run / CHECKSUMS, place, min(place + 1, len(content) - 1))
        with pytest.raises(ValueError, match="is damaged"):
            whole_files(run, FILES)
    for text in (
        b"",
        content[:-20],
        content[:-1],
        content + b"\xff",
        content.replace(b"\n", b"\v"),
    ):
        (run / CHECKSUMS).write_bytes(text)
        with pytest.raises(ValueError, match="is damaged"):
            whole_files(run, FILES)


def test_a_file_of_another_run_is_refused(run, tmp_path_factory):
    recipe = digits("space.resolutions=[12]", "space.width_range=[1.0, 1.0]", "seed=1")
    other = train(recipe, tmp_path_factory.mktemp("runs") / "other", limit_steps=1)
    (run / "weights.safetensors").write_bytes((other / "weights.safetensors").read_bytes())
    for read in (load_run, lambda path: read_weights(str(path))):
        with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
            read(run)


def test_a_run_without_checksums_loads_and_gets_them_with_its_table(run):
    (run / CHECKSUMS).unlink()
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "\n# moved\n")
    assert load_run(run).table is not None
    assert main(["table", str(run)]) == 0
    assert set(FILES) == set(whole_files(run, FILES))
    assert (run / CHECKSUMS).is_file()


def test_a_damaged_table_is_made_anew(run):
    for name in ("table.json", "bn_bank.safetensors", "frontier.png"):
        _flip(run / name, 20, 21)
    assert main(["table", str(run)]) == 0
    assert load_run(run).table is not None
    _flip(run / "weights.safetensors", -1, -2)
    assert main(["table", str(run)]) == 2


def test_a_finished_run_of_damaged_files_is_not_resumed(run):
    recipe = load_run(run).recipe
    _flip(run / "config.yaml", 0, 1)
    with pytest.raises(ValueError, match=r"config\.yaml is damaged"):
        train(recipe, run, limit_steps=1, resume=True)


def test_each_network_of_a_run_of_several_is_checked(tmp_path):
    out = train(pair("optimizer.epochs=1"), tmp_path / "run", limit_steps=1)
    first, second = networks_of(out)
    _flip(first / "weights.safetensors", -1, -2)
    with pytest.raises(ValueError, match=r"network1/weights\.safetensors is damaged"):
        load_run(first)
    assert load_run(second).info["class_names"]
    _flip(out / "run.json", -5, -6)
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        networks_of(out)


def test_all_files_have_the_mode_of_new_files(made):
    umask = os.umask(0)
    os.umask(umask)
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir() if path.is_file()} == {
        0o666 & ~umask
    }


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_text(f"old {name}")
    write_checksums(tmp_path, NAMES)
    return tmp_path


def _contents(folder):
    return {name: path.read_text() for name, path in whole_files(folder, NAMES).items()}


OLD = {name: f"old {name}" for name in NAMES}
NEW = {name: f"new {name}" for name in NAMES}


@pytest.mark.parametrize("steps", range(4))
def test_readers_find_all_old_files_or_all_new_ones_wherever_a_writer_ends(
    folder, steps, monkeypatch
):
    """The writer is stopped before, at, or after the change of checksums and every move."""
    inner, done = type(folder).replace, []

    def stop(self, target):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(target)
        return inner(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(folder), "replace", stop)
        with replaced_files(folder, NAMES) as new:
            for name, text in NEW.items():
                (new / name).write_text(text)
            if steps == 3:
                raise KeyboardInterrupt
    assert _contents(folder) == (OLD if steps in (0, 3) else NEW)
    with replaced_files(folder, NAMES) as new:
        (new / "a.txt").write_text("newest")
    assert _contents(folder)["a.txt"] == "newest"
    assert {path.name for path in folder.iterdir()} == {*NAMES, CHECKSUMS}


def test_of_two_writers_one_waits_for_the_other(folder):
    def write_theirs():
        with replaced_files(folder, NAMES) as new:
            (new / "b.txt").write_text("theirs")

    with ThreadPoolExecutor() as pool, replaced_files(folder, NAMES) as new:
        theirs = pool.submit(write_theirs)
        with pytest.raises(TimeoutError):
            theirs.result(timeout=0.2)
        (new / "a.txt").write_text("ours")
    theirs.result()
    assert _contents(folder) == {"a.txt": "ours", "b.txt": "theirs"}
    assert {path.name for path in folder.iterdir()} == {*NAMES, CHECKSUMS}


def test_new_files_are_found_in_a_folder_that_cannot_be_written(folder, monkeypatch):
    def refuse(*_):
        raise PermissionError

    (folder / checksums._NEW).mkdir()
    for name, text in NEW.items():
        (folder / checksums._NEW / name).write_text(text)
    write_checksums(folder / checksums._NEW, NAMES)
    (folder / checksums._NEW / CHECKSUMS).replace(folder / CHECKSUMS)
    monkeypatch.setattr(type(folder), "replace", refuse)
    assert _contents(folder) == NEW


def test_a_file_that_is_not_listed_beside_others_is_refused_and_an_absent_one_is_absent(folder):
    write_checksums(folder, ["a.txt"])
    with pytest.raises(ValueError, match=r"b\.txt is damaged"):
        whole_files(folder, NAMES)
    (folder / "b.txt").unlink()
    assert set(whole_files(folder, NAMES)) == {"a.txt"}
