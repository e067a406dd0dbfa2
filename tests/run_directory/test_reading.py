"""Runs read back, or refused in one line."""

from __future__ import annotations

import shutil

import pytest

from mutualnet.run_directory import load_run
from mutualnet.training.train import train
from tests.small_runs import digits


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(digits(), tmp_path_factory.mktemp("runs") / "run", limit_steps=1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "weights.safetensors").unlink(), "has no weights.safetensors"),
        (lambda out: (out / "run.json").write_text("{"), "run.json is damaged"),
        (lambda out: (out / "run.json").write_text("{}"), "was not written by"),
        (
            lambda out: (out / "weights.safetensors").write_bytes(b"1234567890"),
            "does not hold this network's weights",
        ),
        (
            lambda out: (out / "run.json").write_text(
                '{"format": "mutualnet.run", "format_version": 9}'
            ),
            "has run format 9, this version reads 1",
        ),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(whole, tmp_path, damage, message):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "SHA256SUMS").unlink()  # as in runs from before there were checksums
    damage(out)
    with pytest.raises(ValueError, match=message) as caught:
        load_run(out)
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be a run directory"):
        load_run(tmp_path / "none")
    with pytest.raises(ValueError, match=r"has no config\.yaml"):
        load_run(tmp_path)
