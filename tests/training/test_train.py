"""Training by a recipe: parts by themselves, then a whole small run."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mutualnet.config.serialization import override, read_recipe
from mutualnet.config.transforms import with_method
from mutualnet.methods import METHODS
from mutualnet.run_directory import load_run
from mutualnet.training.divergence import TrainingDivergedError
from mutualnet.training.dry_run import dry_run
from mutualnet.training.train import train
from tests.small_runs import digits


@pytest.fixture
def recipe():
    return digits()


def test_a_run_is_written_whole_and_reads_back(recipe, tmp_path):
    out = train(recipe, tmp_path / "run", limit_steps=6)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert {"config.yaml", "weights.safetensors", "run.json", "logs"} <= {
        path.name for path in out.iterdir()
    }
    assert read_recipe(out / "config.yaml") == recipe
    info = json.loads((out / "run.json").read_text())
    assert (info["format_version"], info["steps"], len(info["class_names"])) == (1, 6, 10)
    with (out / "logs" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"ce_largest", "kl_random1", "kl_random2", "kl_smallest", "lr"} <= set(rows[0])
    assert list((out / "logs").glob("events.*"))

    run = load_run(out)
    assert run.table is None
    assert not run.supernet.training
    model = run.supernet.model
    assert model(torch.zeros(1, 1, 12, 12)).shape == (1, 10)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(recipe, tmp_path):
    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        out = train(replace(recipe, seed=seed), tmp_path / name, limit_steps=4)
        return load_run(out).supernet.model.state_dict()

    first, again, other = weights("a", 0), weights("b", 0), weights("c", 1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.weight"], other["stem.weight"])


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains_and_reads_back(recipe, tmp_path, method):
    chosen = with_method(recipe, method)
    run = load_run(train(chosen, tmp_path / method, limit_steps=2))
    losses = run.info["last_losses"]
    assert np.isfinite(list(losses.values())).all()
    names = {
        "mutualnet": {"ce_largest", "kl_random1", "kl_random2", "kl_smallest"},
        "us_net": {"ce_largest", "kl_random1", "kl_random2", "kl_smallest"},
        "us_net_multi_scale": {"ce_largest", "kl_random1", "kl_random2", "kl_smallest"},
        "gradaug": {"ce_largest", "kl_random1", "kl_random2", "kl_random3"},
        "multi_scale": {"ce_largest"},
        "independent": {"ce_largest"},
        "s_net": {"ce_largest", "ce_width0.75", "ce_width0.5", "ce_width0.25"},
    }
    assert set(losses) == names[method]


def test_without_distillation_every_member_learns_from_labels(recipe, tmp_path):
    run = load_run(train(override(recipe, ["method.distill=false"]), tmp_path / "r", limit_steps=1))
    assert all(name.startswith("ce_") for name in run.info["last_losses"])


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_subnetwork(recipe, tmp_path):
    wild = override(recipe, ["optimizer.lr=1e30", "checkpoint_minutes=0"])
    with pytest.raises(TrainingDivergedError, match=r"sub-network \S+x(12|8) is nan at step \d"):
        train(wild, tmp_path / "run", limit_steps=20)
    assert [path.name for path in tmp_path.iterdir()] == [".run.partial"]
    with pytest.raises(ValueError, match=r"not finished\. Go on with it by --resume"):
        load_run(tmp_path / ".run.partial")


def test_an_existing_directory_is_never_overwritten(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").touch()
    with pytest.raises(ValueError, match="must not exist yet"):
        train(recipe, tmp_path / "run", limit_steps=1)
    with pytest.raises(ValueError, match="limit_steps must be >= 0, got -1"):
        train(recipe, tmp_path / "other", limit_steps=-1)


def test_a_dry_run_writes_nothing_and_counts_the_steps(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = dry_run(override(recipe, ["optimizer.epochs=3"]), steps=3)
    assert found.num_steps == 3 * math.ceil(1078 / 64)
    assert found.seconds == pytest.approx(found.seconds_per_step * found.num_steps)
    assert found.peak_memory_mib > 50
    assert found.disk_mib > 0
    assert not list(tmp_path.iterdir())


def test_a_recipe_that_asks_for_bf16_trains_in_it(recipe, tmp_path):
    chosen = override(recipe, ["compute.precision=bf16", "compute.memory_format=channels_last"])
    out = train(chosen, tmp_path / "run", limit_steps=2)
    run = load_run(out)
    assert run.info["training_format"] == "bf16 channels_last"
    assert run.supernet.model.stem.weight.dtype == torch.float32
    assert np.isfinite(list(run.info["last_losses"].values())).all()
