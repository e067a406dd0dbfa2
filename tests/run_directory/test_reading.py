"""Runs read back, or refused in one line."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mutualnet.config import override
from mutualnet.cost import CostModel
from mutualnet.models import create_model
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import load_run, make_supernet
from mutualnet.tasks import make_task
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


def test_directories_may_be_text(whole, tmp_path):
    out = train(digits(), str(tmp_path / "run"), limit_steps=1)
    assert out == tmp_path / "run"
    first, second = (load_run(str(path)).supernet.model.state_dict() for path in (whole, out))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be a run directory"):
        load_run(tmp_path / "none")
    with pytest.raises(ValueError, match=r"has no config\.yaml"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("alpha", "settings"),
    [
        (8, ["space.frames=[2]", "data.resolution=64"]),
        (4, ["space.frames=[3, 2]", "model.kwargs={alpha: 4}"]),
    ],
)
def test_cost_is_of_the_clips_that_a_recipe_loads(alpha, settings):
    """Of SlowFast's fast pathway, which sees all of a clip, whatever a sub-network does."""
    small = ["space.resolutions=[48, 32]", *settings]
    recipe = override(load_recipe("kinetics400_slowfast4x16"), small)
    task, subnet = replace(make_task(recipe.task), alpha=alpha), recipe.space.smallest
    model = create_model(recipe.model.name, num_classes=3, **recipe.model.kwargs)
    supernet = make_supernet(model, recipe, task, in_channels=3)
    side = recipe.load_resolution
    batch = torch.zeros(1, 3, 32, side, side), torch.zeros(1, dtype=torch.long)
    network = supernet.extract(subnet, uncalibrated=True)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        task.run(network, task.scale(batch, subnet))
    assert CostModel(supernet).macs(subnet) == counter.get_total_flops() // 2


def test_frames_that_clips_do_not_have_are_refused():
    recipe = override(load_recipe("kinetics400_slowfast4x16"), ["space.frames=[5]"])
    model = create_model(recipe.model.name, num_classes=3)
    with pytest.raises(ValueError, match=r"must see 1 to 4 frames, .* raise clips\.num_frames"):
        make_supernet(model, recipe, make_task(recipe.task), in_channels=3)
