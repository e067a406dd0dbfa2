"""Depth from the command line to a prediction."""

from __future__ import annotations

import json
import logging

import pytest

from mutualnet.cli.main import main
from mutualnet.commands import make_table
from mutualnet.config import RecipeChanges, read_recipe, write_recipe
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import load_run
from mutualnet.space import Subnet
from mutualnet.training import train
from tests.small_runs import digits


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run over two depths, with its table."""
    recipe = digits(
        "model.kwargs={depth: 16, width_factor: 1}",
        "space.depths=[0.5, 1]",
        "space.width_step=0.75",
        "table.latency_runs=1",
        "table.num_calibration_samples=64",
    )
    path = tmp_path_factory.mktemp("runs") / "deep"
    train(recipe, path)
    make_table(path, is_full=True)
    return path


def test_the_table_has_a_row_for_each_depth(run):
    rows = load_run(run).table.rows
    assert {(r.subnet.width_mult, r.subnet.depth_mult) for r in rows} == {
        (1.0, None),
        (1.0, 0.5),
        (0.25, None),
        (0.25, 0.5),
    }
    by_subnet = {row.subnet: row for row in rows}
    for row in rows:
        if row.subnet.depth_mult is None:
            shallow = Subnet.from_dict(row.subnet.to_dict() | {"depth_mult": 0.5})
            assert by_subnet[shallow].macs < row.macs
            assert by_subnet[shallow].params < row.params


def test_predict_takes_shallow_rows_from_the_stored_bank(run, capsys, tmp_path):
    loaded = load_run(run)
    cheapest = min(loaded.table.finished, key=lambda row: row.macs)
    assert cheapest.subnet.depth_mult == 0.5
    assert loaded.supernet.statistics(loaded.supernet.key(cheapest.subnet)) is not None
    image = tmp_path / "digit.png"
    from PIL import Image

    Image.new("L", (8, 8), 200).save(image)
    assert main(["predict", str(run), str(image), "--budget", f"{cheapest.macs / 1e3}K"]) == 0
    assert "depth 0.5" in capsys.readouterr().out


def test_depths_on_the_command_line_are_the_recipes(caplog):
    recipe = load_recipe("digits_demo")
    changed = RecipeChanges(depths=(1.0, 0.5)).apply(recipe)
    assert changed.space.depths == (1.0, 0.5)
    assert changed.space.resolutions == recipe.space.resolutions
    with caplog.at_level(logging.WARNING):
        alone = RecipeChanges(method="independent", settings=["space.depths=[1, 0.5]"]).apply(
            recipe
        )
    assert alone.space.depths == (1.0,)
    assert "method independent trains the depths 1 alone: the others of 1, 0.5" in caplog.text


def test_depths_survive_yaml(tmp_path):
    recipe = digits("space.depths=[1, 0.5]")
    write_recipe(recipe, tmp_path / "r.yaml")
    assert read_recipe(tmp_path / "r.yaml").space.depths == (1.0, 0.5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["info", "mobilenetv1_100", "--depths", "1", "0.5"], "no residual block of the model can"),
        (["info", "resnet18", "--depths", "2"], "depths must lie in (0, 1], got (2.0,)"),
        (
            ["train", "digits_demo", "--depths", "0", "--out", "never"],
            "depths must lie in (0, 1], got (0.0,)",
        ),
    ],
)
def test_depths_that_cannot_be_are_refused_in_one_line(words, message, capsys):
    assert main(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_info_counts_each_depth(capsys):
    words = ["info", "resnet18", "--depths", "1", "0.5", "--resolutions", "64"]
    assert main([*words, "--width-range", "1", "1", "--num-classes", "10"]) == 0
    out = capsys.readouterr().out
    assert "layer2.0 stays; layer2.1 can be left out" in out
    full, half = (line for line in out.splitlines() if line.strip().startswith("│ 1 "))
    assert "11.182" in full
    assert "4.911" in half  # 6,270,720 fewer: the four second blocks
    assert json.dumps("depth")[1:-1] in out
