"""The commands as a user types them."""

from __future__ import annotations

import io
import os
import sys

import pytest

from mutualnet import commands
from mutualnet.cli import main
from mutualnet.cli.calls import CALLS
from mutualnet.messages import ReportedElsewhereError
from tests.typed import complaint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "digit_demo"], "Did you mean digits_demo"),
        (
            ["train", "digits_demo", "--epochs", "0"],
            "--epochs must be a whole number >= 1, got '0'",
        ),
        (["train", "digits_demo", "--epochs", "many"], "--epochs must be a whole number >= 1, got"),
        (["train", "digits_demo", "--seed", "x"], "--seed must be a whole number, got 'x'"),
        (["train", "digits_demo", "--width-range", "x", "1"], "--width-range must be a number"),
        (["train", "digits_demo", "--width-range", "-1", "1"], "0 < low <= high"),
        (["train", "digits_demo", "--width-range", "1"], "--width-range needs 2 values"),
        (["train", "digits_demo", "--set", "optimizer.lx=1"], "Did you mean optimizer.lr?"),
        (["train", "digits_demo", "--data", "somewhere"], "path must be None for digits"),
        (["train", "cifar10_wrn16_1"], "cifar10"),
        (["train", "cifar10_wrn16_1", "--data", "nowhere"], "nowhere"),
        (["info", "mobilenetv1_10"], "Did you mean mobilenetv1_100"),
        (["info", "mobilenetv1_100", "--width-range", "1", "0.5"], "0 < low <= high"),
        (["tabel"], "invalid choice"),
        ([], "command"),
    ],
)
def test_mistakes_get_one_line_that_names_the_way_out(
    words, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert message in complaint(capsys, words)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_recipes_and_info_print_what_they_promise(capsys):
    assert main(["recipes"]) == 0
    assert "imagefolder_mobilenet_v1" in capsys.readouterr().out
    assert main(["info", "mobilenetv2_100", "--width-range", "0.35", "1"]) == 0
    out = capsys.readouterr().out
    assert "300.77" in out
    assert "59.29" in out
    assert "fixed    classifier: its channels are the model's output" in out


def test_help_and_version_are_there(capsys):
    for words in (["--help"], ["train", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
    assert "mutualnet predict RUN IMAGE" in capsys.readouterr().out


def test_what_another_process_tells_is_not_said_again(monkeypatch, capsys):
    def fail(*_, **__):
        raise ReportedElsewhereError("out must be free")

    monkeypatch.setattr(commands, "start_training", fail)
    assert main(["train", "digits_demo"]) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried 3 GiB")])
def test_exhausted_memory_is_one_line(error, capsys, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("mutualnet.commands.info", fail)
    assert main(["info", "wrn16_1"]) == 2
    assert capsys.readouterr().err.startswith("mutualnet: memory is exhausted (")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_an_output_may_be_closed(name, monkeypatch):
    """As `mutualnet run --json ... >&-` has it."""
    monkeypatch.setattr(sys, name, None)
    monkeypatch.setitem(CALLS, "recipes", lambda words: getattr(sys, name).write("{}"))
    assert main(["recipes"]) == 0
    getattr(sys, name).close()


@pytest.mark.parametrize("is_buffered", [True, False])
def test_an_output_that_breaks_ends_quietly(capsys, monkeypatch, is_buffered):
    """As `mutualnet run ... | head -1` does; `PYTHONUNBUFFERED=1` leaves nothing to flush."""
    read, write = os.pipe()
    os.close(read)

    def talk(words):
        print("to nobody", flush=True)

    raw = os.fdopen(write, "wb", buffering=-1 if is_buffered else 0)
    with io.TextIOWrapper(raw, encoding="utf-8", write_through=not is_buffered) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setitem(CALLS, "recipes", talk)
        assert main(["recipes"]) == 1
    assert capsys.readouterr().err == ""


def test_signs_that_an_encoding_lacks_are_written_in_ascii(monkeypatch):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setitem(CALLS, "recipes", lambda words: print("1 ± 2"))
    assert main(["recipes"]) == 0
    assert written.getvalue() == b"1 \\xb1 2\n"
