"""An artifact is whole or it is refused; two hundred damaged ones give no wrong answer."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mutualnet.runtime import AdaptiveRunner, Artifact, ArtifactError, measure, with_latencies
from mutualnet.table import QueryTable
from tests.small_artifact import SUBNETS, content_of, picture, write_zip

MUTATIONS = 200


def _flip(rng, data):
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return bytes(data)


def _mutated(rng, path, out):
    """One way to damage a file; returns what was done."""
    whole, content = path.read_bytes(), content_of(path)
    names = list(content)
    one, other = rng.choice(names, 2, replace=False)
    kind = rng.integers(9)
    if kind == 0:
        out.write_bytes(_flip(rng, whole))
        return "bits of the file"
    if kind == 1:
        out.write_bytes(whole[: rng.integers(len(whole))])
        return "cut"
    if kind == 2:
        at = rng.integers(len(whole))
        out.write_bytes(whole[:at] + rng.bytes(5) + whole[at:])
        return "bytes inserted"
    if kind == 3:
        del content[one]
    elif kind == 4:
        content[one], content[other] = content[other], content[one]
    elif kind == 5:
        content[one] = _flip(rng, content[one])
    elif kind == 6:
        content[one] = content[one][: rng.integers(len(content[one]))]
    elif kind == 7:
        text = content["manifest.json"].decode()
        digits = [i for i, c in enumerate(text) if c.isdigit()]
        at = digits[rng.integers(len(digits))]
        content["manifest.json"] = (text[:at] + str(rng.integers(10)) + text[at + 1 :]).encode()
    else:
        content[f"extra{rng.integers(100)}"] = rng.bytes(10)
    write_zip(out, content.items())
    return f"{kind}: {one}, {other}"


def test_damage_gives_a_refusal_or_the_right_answer(artifact_file, tmp_path):
    rng, image = np.random.default_rng(0), picture()
    right = {s: AdaptiveRunner(artifact_file).run(image, s)[0].probabilities for s in SUBNETS}
    refused = answered = 0
    for number in range(MUTATIONS):
        out = tmp_path / "m.mutualnet"
        what = _mutated(rng, artifact_file, out)
        try:
            runner = AdaptiveRunner(Artifact.open(out, cache=tmp_path / f"cache{number % 2}"))
            found = {s: runner.run(image, s)[0].probabilities for s in SUBNETS}
        except ArtifactError as error:
            refused += 1
            text = str(error)
            assert text.startswith(f"{out} must be an artifact of"), (what, text)
            assert "\n" not in text
        else:
            answered += 1
            for subnet in SUBNETS:
                np.testing.assert_array_equal(found[subnet], right[subnet], err_msg=what)
        if number % 20 == 0:  # what was unpacked before must not hide what is wrong now
            shutil.rmtree(tmp_path / "cache0", ignore_errors=True)
    assert refused + answered == MUTATIONS
    assert refused > MUTATIONS / 2


def test_a_folder_is_an_artifact_too(artifact_file, tmp_path, cache):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for name, content in content_of(artifact_file).items():
        (folder / name).write_bytes(content)
    found = AdaptiveRunner(folder).run(picture())
    assert found == AdaptiveRunner(artifact_file).run(picture())
    (folder / "weights.bin").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"weights\.bin is damaged"):
        Artifact.open(folder)
    (folder / "weights.bin").unlink()
    with pytest.raises(ArtifactError, match=r"weights\.bin is missing"):
        Artifact.open(folder)


def test_content_is_unpacked_once(artifact_file, cache):
    first = Artifact.open(artifact_file).folder
    written = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert Artifact.open(artifact_file).folder == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == written
    assert [path for path in cache.iterdir() if path.name.startswith(".")] == []


def test_a_damaged_cache_is_made_anew(artifact_file, cache):
    folder = Artifact.open(artifact_file).folder
    content = (folder / "weights.bin").read_bytes()
    (folder / "weights.bin").write_bytes(content[:-1])
    again = Artifact.open(artifact_file).folder
    assert (again / "weights.bin").read_bytes() == content


def test_a_damaged_cache_that_cannot_be_replaced_is_done_without(artifact_file, cache, monkeypatch):
    """As where another user owns the folder."""
    folder = Artifact.open(artifact_file).folder
    (folder / "weights.bin").write_bytes(b"damaged")
    rename = Path.rename

    def refuse(self, target):
        if folder in (self, Path(target)):
            raise PermissionError(13, "not yours")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    artifact = Artifact.open(artifact_file)
    assert artifact.folder != folder
    assert AdaptiveRunner(artifact).run(picture()) is not None
    assert (folder / "weights.bin").read_bytes() == b"damaged"
    assert [path for path in cache.iterdir() if path.name.startswith(".")] == []


def test_a_cache_that_cannot_be_written_is_done_without(artifact_file, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("MUTUALNET_CACHE", str(blocked))
    artifact = Artifact.open(artifact_file)
    assert len(AdaptiveRunner(artifact).run(picture())) == 1
    folder = artifact.folder
    assert folder.is_dir()
    del artifact
    import gc

    gc.collect()
    assert not folder.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_fork_that_ends_leaves_the_folder_of_its_parent(artifact_file, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("MUTUALNET_CACHE", str(blocked))
    script = """
import os, sys
from mutualnet.runtime import Artifact
artifact = Artifact.open(sys.argv[1])
child = os.fork()
if child == 0:
    sys.exit()
os.waitpid(child, 0)
print(len(list(artifact.folder.iterdir())), artifact.folder)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(artifact_file)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    count, folder = done.stdout.split(maxsplit=1)
    assert int(count) > 1
    assert not Path(folder.strip()).exists()


def test_a_folder_of_the_cache_has_the_mode_that_the_umask_gives(artifact_file, cache):
    before = os.umask(0o027)
    try:
        folder = Artifact.open(artifact_file).folder
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_what_another_user_left_in_the_cache_is_let_alone(artifact_file, cache, monkeypatch):
    folder = Artifact.open(artifact_file).folder
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert Artifact.open(artifact_file).folder == folder
    (folder / "weights.bin").write_bytes(b"damaged")
    artifact = Artifact.open(artifact_file)
    assert artifact.folder != folder
    assert AdaptiveRunner(artifact).run(picture()) is not None
    assert (folder / "weights.bin").read_bytes() == b"damaged"
    assert list(cache.iterdir()) == [folder]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_process_may_go_to_another_folder(artifact_file, tmp_path, monkeypatch, is_folder):
    name = "unpacked" if is_folder else "m.mutualnet"
    if is_folder:
        with zipfile.ZipFile(artifact_file) as archive:
            archive.extractall(tmp_path / name)
    else:
        shutil.copy(artifact_file, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUTUALNET_CACHE", "unpacked-here")
    runner = AdaptiveRunner(name)
    monkeypatch.chdir(tmp_path.parent)
    assert len(runner.run(picture())) == 1
    assert runner.artifact.with_table(runner.artifact.table).path == tmp_path / name


def test_a_cache_below_the_home_folder_is_there(artifact_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MUTUALNET_CACHE", "~/models")
    assert Artifact.open(artifact_file).folder.parent == tmp_path / "home" / "models"


def test_a_cache_that_is_cleaned_while_it_is_in_use_is_named(artifact_file, cache):
    runner = AdaptiveRunner(artifact_file)
    shutil.rmtree(cache)
    with pytest.raises(
        ArtifactError, match=r"must keep its files .* has lost .* Open the artifact again"
    ):
        runner.run(picture())


def test_another_table_is_written_into_the_artifact(artifact_file, tmp_path):
    path = tmp_path / "m.mutualnet"
    shutil.copy(artifact_file, path)
    path.chmod(0o640)
    artifact = Artifact.open(path)
    latencies = measure(artifact, runs=5)
    table = with_latencies(artifact, latencies, threads=1, batch_size=1, runs=5)
    artifact.with_table(table)
    again = Artifact.open(path)
    assert again.table == table
    assert again.folder == artifact.folder  # the weights are not unpacked again
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert AdaptiveRunner(again).run(picture()) == AdaptiveRunner(artifact_file).run(picture())
    other = QueryTable.from_rows(table.rows[:2], table.meta)
    with pytest.raises(ArtifactError, match="must have one finished row for each configuration"):
        again.with_table(other)


def test_another_table_is_written_into_a_folder(artifact_file, tmp_path):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for name, content in content_of(artifact_file).items():
        (folder / name).write_bytes(content)
    artifact = Artifact.open(folder)
    rows = [dataclasses.replace(row, latency_ms=2.0) for row in artifact.table.rows]
    artifact.with_table(QueryTable.from_rows(rows, artifact.table.meta))
    assert {row.latency_ms for row in Artifact.open(folder).table.rows} == {2.0}


@pytest.mark.parametrize("is_folder", [False, True])
def test_configurations_can_be_removed(artifact_file, tmp_path, is_folder):
    path = tmp_path / "m.mutualnet"
    if is_folder:
        with zipfile.ZipFile(artifact_file) as archive:
            archive.extractall(path)
    else:
        path.write_bytes(artifact_file.read_bytes())
    artifact = Artifact.open(path)
    first, *others = artifact.manifest.configurations
    artifact.without([first.subnet])
    found = Artifact.open(path)
    assert found.manifest.configurations == tuple(others)
    assert {row.subnet for row in found.table.rows} == {c.subnet for c in others}
    assert set(artifact.manifest.files) - set(found.manifest.files) == {first.graph}
    if is_folder:
        assert not (path / first.graph).exists()
    with pytest.raises(ValueError, match="at least one configuration, got none left"):
        found.without([c.subnet for c in others])
