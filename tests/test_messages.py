"""Names from outside are printed as they are: no markup, no emoji, no control characters."""

from __future__ import annotations

import io
import logging
import os
import sys

import pytest
from PIL import Image

from mutualnet.cli import main
from mutualnet.console import make_console
from mutualnet.messages import LogFormatter, printable, reason_of, unreadable_images
from mutualnet.training.train import train
from tests.fixtures import ODD_NAMES
from tests.small_runs import digits


def test_control_characters_and_bytes_that_are_no_text_are_made_visible(capsys):
    name = os.fsdecode(b"a\x1b[31m\r\xff.png")
    assert printable(f"{name}\n\u2028") == "a\\x1b[31m\\r\\udcff.png\n\\u2028"
    make_console().print(name)
    assert capsys.readouterr().out == "a\\x1b[31m\\r\\udcff.png\n"
    record = logging.LogRecord("x", logging.INFO, "x", 1, "image %s", (name,), None)
    assert LogFormatter().format(record) == "image a\\x1b[31m\\r\\udcff.png"


def test_an_error_without_text_is_told_by_its_type():
    assert reason_of(OSError("  no space\nleft")) == "no space"
    assert reason_of(EOFError()) == reason_of(EOFError(" \n")) == "EOFError"


def test_unreadable_images_are_counted_where_there_are_several():
    assert unreadable_images(["no a.png"], 1) == "no a.png"
    several = unreadable_images(["no a.png", "no b.png"], 3)
    assert several == "2 of 3 images cannot be read: no a.png; no b.png"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one step in a folder of an odd name, with a table of one row."""
    settings = ["space.resolutions=[12]", "space.width_range=[1.0, 1.0]", "table.latency_runs=0"]
    recipe = digits(*settings, "table.num_calibration_samples=64")
    out = train(recipe, tmp_path_factory.mktemp("runs") / "r[/b]un", limit_steps=1)
    assert main(["table", str(out)]) == 0
    return out


def test_commands_print_names_as_they_are(run, tmp_path, capsys):
    images = [tmp_path / name for name in ODD_NAMES]
    for image in images:
        image.parent.mkdir(exist_ok=True)
        Image.new("L", (12, 12)).save(image)
    assert main(["table", str(run)]) == 0
    assert f"plot: {run}/frontier.png" in capsys.readouterr().out
    assert main(["predict", str(run), *map(str, images)]) == 0
    out = capsys.readouterr().out
    for image in images:
        assert str(image) in out


def test_errors_print_names_as_they_are(run, capsys):
    for name in ("x[/red].jpg", "a[red]b.jpg"):
        assert main(["predict", str(run), name]) == 2
        assert f"mutualnet: no image file {name}" in capsys.readouterr().err


def test_a_name_that_is_no_text_ends_no_command(run, tmp_path, monkeypatch):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m.png")
    Image.new("L", (12, 12)).save(tmp_path / "photo.png")
    (tmp_path / "photo.png").rename(name)
    # As a terminal's: pytest's own take any text.
    out, err = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, "utf-8", write_through=True))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, "utf-8", write_through=True))
    assert main(["predict", str(run), name]) == 0
    assert main(["predict", str(run), os.fsdecode(b"\xfe\x1b.png")]) == 2
    said, complained = out.getvalue(), err.getvalue()
    assert b"Traceback" not in complained
    assert b"\x1b" not in said + complained
    assert b"\\xff\\x1b[31m.png" in said
    assert b"no image file \\xfe\\x1b.png" in complained
