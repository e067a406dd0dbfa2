"""Several processes train one network as one process would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mutualnet.distributed import (
    Ranks,
    average_gradients,
    current_ranks,
    from_first,
    gather,
    process_group,
    sum_over_ranks,
)

HERE = Path(__file__).parent


def _torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [*command, "--standalone", *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


def test_one_process_needs_no_group():
    model = nn.Linear(2, 2)
    model.weight.grad = torch.ones(2, 2)
    with process_group() as ranks:
        assert ranks == current_ranks() == Ranks(0, 1)
        average_gradients(model)
        assert torch.equal(model.weight.grad, torch.ones(2, 2))
        assert (from_first("a"), gather("a")) == ("a", ["a"])
        assert torch.equal(sum_over_ranks(torch.ones(3)), torch.ones(3))


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch lacks gloo")
def test_gradients_weights_statistics_and_scores_of_two_processes_are_those_of_one():
    done = _torchrun(str(HERE / "two_processes.py"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "rank 0 fine" in done.stderr
    assert "rank 1 fine" in done.stderr


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch lacks gloo")
def test_the_commands_run_under_torchrun(tmp_path):
    out = tmp_path / "run"
    settings = ["--set", "space.resolutions=[12,8]", "space.width_step=0.25"]
    settings += ["model.kwargs={depth: 10, width_factor: 1}", "table.latency_runs=1"]
    settings += ["table.num_calibration_samples=64", "compute.precision=fp32"]
    settings += ["compute.memory_format=contiguous"]  # neither is probed in every process
    train = ["train", "digits_demo", "--limit-steps", "3", "--out", str(out), *settings]
    done = _torchrun(str(HERE / "several_commands.py"), *train, ";", "table", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trained:") == 1
    assert done.stdout.count("  largest ") == done.stdout.count("  smallest ") == 1
    assert done.stderr.count("scores after epoch 1: select") == 1
    assert len((out / "logs" / "metrics.csv").read_text().splitlines()) == 2
    assert (out / "table.json").is_file()
    assert done.stdout.count("plot:") == 1
