"""What a latency was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from mutualnet.runtime import device_name
from mutualnet.runtime.device import num_cores


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor : 0\nmodel name\t: Fast CPU: 9\nmodel name\t: other\n", "Fast CPU: 9"),
        ("processor : 0\nModel : Raspberry Pi 4\n", "Raspberry Pi 4"),
        ("model name :\nModel : Board\n", "Board"),
    ],
)
def test_the_processor_is_named_as_linux_tells_it(monkeypatch, text, name):
    monkeypatch.setattr(Path, "read_text", lambda *_: text)
    assert device_name() == name


def test_elsewhere_python_tells_it(monkeypatch):
    def absent(*_):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert device_name() == "arm64"


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2, 5, 7}, raising=False)
    assert num_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert num_cores() == 1
