"""Recipes as text: YAML and back, overrides, mistakes."""

from __future__ import annotations

import pytest

from mutualnet.config.data import DataConfig
from mutualnet.config.model import ModelConfig
from mutualnet.config.optimizer import OptimizerConfig
from mutualnet.config.recipe import Recipe
from mutualnet.config.serialization import override, read_recipe, write_recipe
from mutualnet.recipes import load_recipe
from mutualnet.space import ElasticSpace
from tests.small_runs import pair


@pytest.fixture
def recipe():
    return Recipe(
        name="small",
        description="a test",
        model=ModelConfig(name="wrn16_1", kwargs={}),
        data=DataConfig(name="digits"),
        space=ElasticSpace(widths=(1.0, 0.5), resolutions=(16, 8)),
        optimizer=OptimizerConfig(lr=0.1, epochs=2),
    )


def test_overrides_are_typed_and_leave_the_recipe_alone(recipe):
    changed = override(
        recipe,
        ["optimizer.lr=0.5", "space.resolutions=[16, 12]", "method.distill=false", "seed=3"],
    )
    assert (changed.optimizer.lr, changed.space.resolutions) == (0.5, (16, 12))
    assert (changed.method.distill, changed.seed) == (False, 3)
    assert recipe.optimizer.lr == 0.1


def test_a_range_of_widths_takes_the_place_of_a_list(recipe):
    changed = override(recipe, ["space.width_range=[0.25, 1]"])
    assert (changed.space.widths, changed.space.width_range) == (None, (0.25, 1.0))
    both = override(recipe, ["space.width_range=[0.25, 1]", "space.widths=[0.25, 1]"])
    assert both.space.widths == (1.0, 0.25)
    with pytest.raises(ValueError, match="method s_net trains a fixed list of widths"):
        override(load_recipe("imagenet_resnet50_s_net"), ["space.width_range=[0.5, 1]"])


def test_an_override_of_one_peer_leaves_the_other_networks_alone():
    settings = [
        "optimizer.name=adamw",
        "optimizer.kwargs={eps: 1.0e-8}",
        "teaching.optimizers=each",
    ]
    changed = override(pair(*settings), ["peers.0.optimizer.kwargs.eps=1.0e-3"])
    assert [own.kwargs for own in changed.optimizers] == [{"eps": 1e-8}, {"eps": 1e-3}]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer.lr", "--set must be key=value"),
        ("optimizer.lrr=1", "no key optimizer.lrr. Did you mean optimizer.lr?"),
        ("optimiser.lr=1", "no key optimiser. Did you mean optimizer?"),
        ("name.x=1", "name has no keys of its own"),
        ("optimizer.lr=fast", "optimizer.lr must be a number, got 'fast'"),
        ("optimizer.lr=-1", "optimizer.lr must be > 0, got -1"),
        ("model.heads=5", "model.heads must be text or null, got 5"),
        ("space.resolutions=[a]", r"space.resolutions must be a list, each a whole number, got \["),
        ("compute.precision=fp9", "compute.precision must be one of auto, fp32, bf16, got 'f"),
        ("model.kwargs=3", "model.kwargs must be names and values"),
        ("model.kwargs={1: 5}", "model.kwargs must have names, got 1"),
        ("model.kwargs.num_classes=5", "must leave num_classes out"),
        ("teaching=dml", r"teaching must be keys and values, such as {method: ...}, got 'dml'"),
        ("peers=3", r"peers must be a list, such as \[{model"),
        ("peers=[wrn16_1]", r"peers.0 must be keys and values, such as {model: ...}, got 'wrn16_"),
        ("peers=[{model: wrn16_1}]", "peers.0.model must be keys and values"),
        ("peers=[{}]", "a recipe must have peers.0.model, got none"),
        (
            "peers=[{model: {name: wrn16_1}, optimizer: {lr: 0.1}}]",
            "a recipe must have peers.0.optimizer.epochs",
        ),
        (
            "peers=[{model: {name: wrn16_1}, optimizer: {lr: -1, epochs: 2}}]",
            "peers.0.optimizer.lr must be > 0, got -1",
        ),
        ("space.resolutions.0=64", r"space.resolutions is a list, .*: space.resolutions=\[...\]"),
        ("space.resolutions.0.x=64", r"space.resolutions is a list, which is set as a whole"),
        ("peers.0=x", "peers.0 must name a value of one peer, such as peers.0.model.name"),
        ("peers.²=x", "peers.² must name a value of one peer"),
        ("peers.0.model.name=x", "must be one of the recipe's peers, got none of them"),
        ("seed=[", "must be YAML"),
        ("compute.precision=fp8", "fp8"),
        ("method.name=magic", "method.name must be one of mutualnet"),
        ("space.width_range=[1, 2]", "model_width_mult"),
    ],
)
def test_a_wrong_override_gets_one_line(recipe, setting, message):
    with pytest.raises(ValueError, match=message) as caught:
        override(recipe, [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "must hold a recipe's keys and values, got list"),
        ("a: [", "must hold YAML"),
        ("name: x", "description"),
        ("colour: red", "a recipe has no key colour"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)


def test_the_old_name_of_a_part_is_read_still(recipe, tmp_path, caplog):
    changed = override(recipe, ["compute.precision=bf16"])
    assert override(recipe, ["precision.precision=bf16"]) == changed  # the name before
    assert "precision of a recipe is now called compute" in caplog.text
    path = tmp_path / "old.yaml"
    write_recipe(changed, path)
    path.write_text(path.read_text().replace("compute:", "precision:"))
    assert read_recipe(path) == changed


def test_a_peer_is_named_by_a_number_that_there_is():
    for number in ("1", "²", "-1"):
        with pytest.raises(ValueError, match=f"the number in peers.{number} must be below 1"):
            override(pair(), [f"peers.{number}.model.name=x"])
