"""Pairs as in the papers on mutual learning."""

from __future__ import annotations

import pytest

from mutualnet.config.serialization import override
from mutualnet.config.transforms import with_teaching
from mutualnet.recipes import RECIPES, load_recipe

_WRN = (200, 128, 5e-4, False, (60, 120, 160), 0.2)

_RESNET = (200, 64, 1e-4, False, (60, 120, 180), 0.1)

_IMAGENET = (100, 256, 1e-4, False, (30, 60, 90), 0.1)

PAIRS = {
    # name: networks, then epochs, batch, decay, Nesterov, milestones, factor at each
    "cifar100_wrn28_10_pair": (2 * ("wrn28_10",), *_WRN),
    "cifar100_wrn28_4_pair": (2 * ("wrn28_4",), *_WRN),
    "cifar100_wrn16_1_pair": (2 * ("wrn16_1",), *_WRN),
    "cifar100_resnet110_pair": (2 * ("resnet110_cifar",), *_RESNET),
    "cifar100_resnet164_pair": (2 * ("resnet164_cifar",), *_RESNET),
    "cifar100_densenet40_12_pair": (
        2 * ("densenet40_12",),
        *(300, 64, 1e-4, True, (150, 225), 0.1),
    ),
    "cifar100_mobilenet_pair": (2 * ("mobilenet_v1_cifar_8x8",), *_RESNET),
    "cifar100_wrn28_10+mobilenet_pair": (("wrn28_10", "mobilenet_v1_cifar_8x8"), *_WRN),
    "cifar100_wrn28_10+resnet110_pair": (("wrn28_10", "resnet110_cifar"), *_WRN),
    "imagenet_resnet18_pair": (2 * ("timm:resnet18",), *_IMAGENET),
    "imagenet_resnet50_pair": (2 * ("timm:resnet50",), *_IMAGENET),
    "imagenet_resnet50+resnet18_pair": (("timm:resnet50", "timm:resnet18"), *_IMAGENET),
}


@pytest.mark.parametrize("name", PAIRS)
def test_settings_of_pairs_are_the_papers(name):
    recipe = load_recipe(name)
    networks, epochs, batch_size, decay, nesterov, milestones, gamma = PAIRS[name]
    assert tuple(model.name for model in recipe.models) == networks
    assert recipe.data.batch_size == batch_size
    for optimizer in recipe.optimizers:
        assert (optimizer.epochs, optimizer.lr, optimizer.momentum) == (epochs, 0.1, 0.9)
        assert (optimizer.weight_decay, optimizer.nesterov) == (decay, nesterov)
        assert (optimizer.schedule, optimizer.milestones) == ("step", milestones)
        assert optimizer.gamma == gamma
        assert optimizer.decay_all
        assert not optimizer.reset_momentum
    assert (recipe.teaching.method, recipe.teaching.tau) == ("dcm", 1.0)
    assert len(recipe.graph.edges) == 24


def test_mobilenet_v2s_pair_has_a_cosine_of_its_own():
    optimizer = load_recipe("imagenet_mobilenet_v2_pair").optimizer
    assert (optimizer.epochs, optimizer.lr, optimizer.weight_decay) == (150, 0.05, 4e-5)
    assert (optimizer.schedule, optimizer.nesterov) == ("cosine", False)
    assert load_recipe("imagenet_mobilenet_v2_pair").data.batch_size == 256


def test_every_pair_is_held_to_its_papers_settings():
    others = {"imagenet_mobilenet_v2_pair"}
    assert {name for name in RECIPES if name.endswith("_pair")} == {*PAIRS, *others}


@pytest.mark.parametrize("method", ["independent", "deep_supervision", "dml", "dks", "dcm"])
def test_a_pair_is_one_switch_away_from_every_method(method):
    for name in (name for name in RECIPES if name.endswith("_pair")):
        recipe = with_teaching(load_recipe(name), method)
        assert recipe.teaching.method == method
        assert recipe.space == load_recipe(name).space
        assert recipe.graph.num_networks == 2


def test_a_pair_learns_from_a_teacher_by_another_switch():
    for name in (name for name in RECIPES if name.endswith("_pair")):
        recipe = with_teaching(override(load_recipe(name), ["teacher.name=runs/large"]), "kd")
        taught = [edge.student.network for edge in recipe.graph.edges if edge.teacher is not None]
        assert (taught, recipe.graph.frozen) == ([0, 1], {2})
