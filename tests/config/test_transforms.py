"""Changes of a recipe that belong together."""

from __future__ import annotations

import pytest

from mutualnet.config.serialization import override
from mutualnet.config.transforms import with_epochs, with_lr, with_method, with_model
from mutualnet.recipes import load_recipe
from tests.small_runs import pair


def test_a_method_brings_the_space_that_it_trains():
    recipe = load_recipe("imagenet_mobilenet_v1")
    assert with_method(recipe, "us_net").space == recipe.space
    wide = with_method(recipe, "us_net", width_range=(0.05, 1.0))
    assert wide.space.width_range == (0.05, 1.0)
    alone = with_method(recipe, "independent").space
    assert (alone.width_range, alone.resolutions) == ((1.0, 1.0), (224,))
    scaled = with_method(recipe, "multi_scale").space
    assert (scaled.width_range, scaled.resolutions) == ((1.0, 1.0), recipe.space.resolutions)
    fixed = with_method(recipe, "s_net").space
    assert (fixed.widths, fixed.resolutions) == ((1.0, 0.75, 0.5, 0.25), (224,))
    listed = load_recipe("imagenet_mobilenet_v2_s_net")
    assert with_method(listed, resolutions=(192,)).space.widths == (1.0, 0.75, 0.5, 0.35)
    spread = with_method(listed, width_range=(0.25, 1.0)).space
    assert spread.widths == (1.0, 0.75, 0.5, 0.25)
    assert with_method(listed, "mutualnet").space.widths is None
    chosen = override(recipe, ["space.widths=[0.25, 0.5, 1.0]"])
    assert with_method(chosen, resolutions=(192,)).space.widths == (1.0, 0.5, 0.25)
    with pytest.raises(ValueError, match=r"^method must be one of mutualnet, us_net"):
        with_method(recipe, "magic")
    with pytest.raises(ValueError, match="s_net trains a fixed list of widths"):
        override(recipe, ["method.name=s_net"])


@pytest.mark.parametrize(
    ("epochs", "message"), [(10**400, r"epochs must lie below 2\*\*53"), (0, "epochs must be >= 1")]
)
def test_epochs_out_of_range_are_refused(epochs, message):
    with pytest.raises(ValueError, match=message):
        with_epochs(load_recipe("cifar100_wrn16_1_pair"), epochs)


def test_a_method_brings_its_schedule_unless_the_recipe_had_another():
    recipe = load_recipe("imagenet_mobilenet_v1")
    assert with_method(recipe, "us_net").optimizer.schedule == "linear"
    assert with_method(with_method(recipe, "us_net"), "gradaug").optimizer.schedule == "cosine"
    kept = override(with_method(recipe, "us_net"), ["optimizer.schedule=cosine"])
    assert (kept.method.name, kept.optimizer.schedule) == ("us_net", "cosine")
    stepped = override(recipe, ["optimizer.schedule=exponential"])
    assert with_method(stepped, "us_net").optimizer.schedule == "exponential"


def test_all_networks_of_a_pair_get_them_or_the_way_is_named():
    recipe = pair("peers.0.optimizer.momentum=0.8")
    changed = with_model(with_lr(recipe, 0.3), "wrn16_1")
    assert [own.lr for own in changed.optimizers] == [0.3, 0.3]
    assert changed.optimizers[1].momentum == 0.8
    assert [own.name for own in changed.models] == ["wrn16_1", "wrn16_1"]
    assert all(own.heads is None for own in changed.models)
    mixed = override(recipe, ["peers.0.model.name=wrn16_4", "peers.0.optimizer.lr=0.07"])
    with pytest.raises(ValueError, match=r"--lr must fit every network, .* peers.0.optimizer.lr="):
        with_lr(mixed, 0.3)
    with pytest.raises(ValueError, match=r"--model must fit every network, .* peers.0.model.name="):
        with_model(mixed, "wrn16_1")


def test_weights_of_another_network_are_not_taken_along():
    recipe = override(load_recipe("digits_demo"), ["model.init=timm:resnet18"])
    with pytest.raises(ValueError, match=r"--model wrn16_1 cannot start from timm:resnet18"):
        with_model(recipe, "wrn16_1")
