"""`mutualnet export`, as a user types it."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization as formats
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mutualnet.cli import main
from mutualnet.runtime import Artifact
from mutualnet.space import INT8, Subnet
from mutualnet.training import train
from tests.small_runs import digits

pytestmark = pytest.mark.usefixtures("place")


def test_the_file_is_named_like_the_run(run_folder, place):
    assert main(["export", str(run_folder), "--no-measure", "--configs", "1"]) == 0
    assert (place / "run.mutualnet").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--configs", "best"], "--configs must be front, all, a count, or names"),
        (["--configs", "0.3x12"], "--configs must be front, all, a count, or names"),
        (["--configs", "0"], "at least one configuration must be exported, got 0"),
        (["--configs", "²"], "--configs must be front, all, a count, or names"),
        (["--configs=--5"], "--configs must be front, all, a count, or names"),
        (["--configs", ","], "--configs must be front, all, a count, or names"),
        (["-o", "m.onnx"], "--out must end in .mutualnet, got m.onnx"),
        (["-o", "no/m.mutualnet"], "--out must lie in a folder that is there"),
        (["--format", "onnx", "-o", "m.onnx", "--configs", "all"], "is for one configuration"),
        (["--format", "onnx", "-o", "m.mutualnet"], "--out must end in .onnx"),
        (["--format", "tflite"], "--format"),
    ],
)
def test_mistakes_are_one_line(run_folder, place, capsys, words, message):
    assert main(["export", str(run_folder), "--no-measure", *words]) == 2
    found = capsys.readouterr().err
    assert message in found
    assert found.count("\n") == 1
    assert list(place.iterdir()) == []


def test_a_run_without_a_table_says_how_to_make_it(place, capsys):
    train(digits(), place / "young", limit_steps=1)
    capsys.readouterr()
    assert main(["export", "young"]) == 2
    assert "Make it: mutualnet table young" in capsys.readouterr().err


def test_an_artifact_is_signed_by_its_maker(run_folder, place, capsys):
    key = Ed25519PrivateKey.generate()
    (place / "maker").write_bytes(
        key.private_bytes(
            formats.Encoding.PEM, formats.PrivateFormat.OpenSSH, formats.NoEncryption()
        )
    )
    (place / "maker.pub").write_bytes(
        key.public_key().public_bytes(formats.Encoding.OpenSSH, formats.PublicFormat.OpenSSH)
    )
    words = ["export", str(run_folder), "-o", "m.mutualnet", "--configs", "1", "--no-measure"]
    assert main([*words, "--sign", "maker.pub"]) == 2
    assert "maker.pub must hold a private Ed25519 key" in capsys.readouterr().err
    assert not (place / "m.mutualnet").exists()
    assert main([*words, "--sign", "maker"]) == 0
    assert Artifact.open("m.mutualnet", public_key=place / "maker.pub").signature is not None
    assert main([*words[:2], "--format", "onnx", "--configs", "1x8", "--sign", "maker"]) == 2
    assert "--sign is for artifacts, got --format onnx" in capsys.readouterr().err


def test_an_export_that_is_interrupted_leaves_the_earlier_file(run_folder, place, monkeypatch):
    words = ["export", str(run_folder), "-o", "m.mutualnet", "--configs"]
    assert main([*words, "1", "--no-measure"]) == 0
    before = (place / "m.mutualnet").read_bytes()

    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("mutualnet.device_commands.measure", interrupted)
    assert main([*words, "all"]) == 130
    assert (place / "m.mutualnet").read_bytes() == before
    assert [path.name for path in place.iterdir() if path.is_file()] == ["m.mutualnet"]


def test_the_command_keeps_the_front_and_says_so(run_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["export", str(run_folder), "-o", "m.mutualnet", "--configs", "0.25x8", "--int8"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    table = Artifact.open("m.mutualnet").table
    assert "quantised 0.25x8 (1 of 1)" in printed
    front = {row.subnet for row in table.front("latency_ms")}
    kept = [row.subnet for row in table.rows if row.subnet.precision == INT8]
    assert set(kept) <= front
    assert f"{len(kept)} of 1 int8 variants are on the front" in printed
    assert Subnet(width_mult=0.25, resolution=8) in {row.subnet for row in table.rows}
