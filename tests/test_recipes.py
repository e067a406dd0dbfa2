"""Every recipe trains, is tabulated and predicts; settings are those of the papers."""

from __future__ import annotations

import pytest

from mutualnet import commands
from mutualnet.config import RecipeChanges
from mutualnet.config.serialization import override, read_recipe, write_recipe
from mutualnet.config.transforms import with_method, with_teaching
from mutualnet.cost import CostModel
from mutualnet.models import create_model
from mutualnet.recipes import RECIPES, independent_grid, load_recipe
from mutualnet.run_directory import networks_of, read_record
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.supernet import Supernet
from tests.fixtures import WRITERS, write_image
from tests.videos import write_class_video

SMALL = [
    "data.batch_size=6",
    "optimizer.lr=0.003",  # the recipes' rates are for batches of up to 1024
    "data.num_workers=0",
    "data.select_share=0.34",
    "compute.precision=fp32",
    "compute.memory_format=contiguous",
    "space.width_step=1.0",
    "table.num_calibration_samples=6",
    "watch={every_epochs: 1, num_images: 6, num_calibration_samples: 6}",
    "table.latency_runs=0",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(name):
        if name == "digits":
            return None
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            WRITERS[name](made[name])
        return str(made[name])

    return folder


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_trains_is_tabulated_and_predicts(name, folders, tmp_path, capsys):
    recipe = load_recipe(name)
    sides = recipe.space.resolutions
    # Low resolutions: hundreds of images pass through the largest networks.
    smaller = [48, 32] if sides[0] > 100 else [8, 6] if sides[0] == 32 else [sides[0], sides[-1]]
    sides = smaller[: len(sides)]
    out = tmp_path / "run"
    settings, photo = [*SMALL], tmp_path / "photo.jpg"
    write_image(photo, 0)
    frames = recipe.space.frames
    if frames is not None:
        photo, sides, frames = write_class_video(tmp_path / "c.mp4", 0, 0), [32, 24], frames[::2]
        settings += [f"space.frames={list(frames)}", "clips.num_clips=1", "data.batch_size=4"]
    settings.append(f"space.resolutions={sides}")
    changes = RecipeChanges(data=folders(recipe.data.name), settings=settings)
    commands.start_training(name, changes, out=out, limit_steps=2)
    widths = set(recipe.space.widths or recipe.space.width_range)
    networks = networks_of(out)
    assert len(networks) == 1 + len(recipe.peers)
    for path in networks:
        run = read_record(path)
        assert run.info["steps"] == 2
        assert ("test" in run.info) == bool(recipe.peers)
        if recipe.peers and run.recipe.method.name == "independent":
            continue  # scored already; a table of one row is tried with smaller networks
        commands.make_table(path)
        commands.predict(path, [photo], budget=None)
        shown = capsys.readouterr().out
        assert "best of all: sub-network" in shown
        assert f"{photo}: " in shown
        table = read_record(path).table
        assert {row.subnet.width_mult for row in table.rows} == widths
        assert {row.subnet.resolution for row in table.rows} == set(sides)
        assert {row.subnet.num_frames for row in table.rows} == set(frames or [None])


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_reads_back_from_yaml_and_has_a_line(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert 10 < len(recipe.description) < 110
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe


SETTINGS = {
    # name: width range, resolutions, epochs, batch, rate, decay
    "imagenet_mobilenet_v1": ((0.25, 1), (224, 192, 160, 128), 250, 1024, 0.5, 1e-4),
    "imagenet_mobilenet_v2": ((0.7, 1), (224, 192, 160, 128), 250, 1024, 0.5, 1e-4),
    "imagenet_resnet50": ((0.9, 1), (224, 192, 160, 128), 120, 512, 0.2, 1e-4),
    "imagenet_mobilenet_v1_scaled": ((1, 2), (320, 288, 256, 224), 250, 1024, 0.5, 1e-4),
    "cifar10_wrn28_10": ((0.9, 1), (32, 28, 24, 20), 200, 128, 0.1, 5e-4),
    "cifar100_wrn28_10": ((0.9, 1), (32, 28, 24, 20), 200, 128, 0.1, 5e-4),
    "food101_mobilenet_v1": ((0.25, 1), (224, 192, 160, 128), 100, 256, 0.1, 1e-4),
    "indoor67_mobilenet_v1": ((0.25, 1), (224, 192, 160, 128), 100, 256, 0.1, 1e-4),
    "cifar100_mobilenet_v1_transfer": ((0.25, 1), (224, 192, 160, 128), 100, 256, 0.1, 1e-4),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_the_papers(name):
    recipe = load_recipe(name)
    width_range, resolutions, epochs, batch_size, lr, decay = SETTINGS[name]
    assert recipe.space.width_range == width_range
    assert recipe.space.resolutions == resolutions
    optimizer = recipe.optimizer
    assert (optimizer.epochs, optimizer.lr, optimizer.weight_decay) == (epochs, lr, decay)
    assert recipe.data.batch_size == batch_size
    assert (optimizer.schedule, optimizer.momentum, optimizer.nesterov) == ("cosine", 0.9, True)
    # Only ImageNet spares BN, biases and depthwise layers.
    assert optimizer.decay_all != name.startswith("imagenet")
    assert recipe.data.augment == ("wide_crop" if "resnet50" in name else "standard")


_MOBILE = (480, 160, 0.045, "exponential", (), 0.98, "standard")
SLIMMABLE = {
    # name: widths, then epochs, batch, rate, schedule, milestones, factor, augmentation, and M MACs
    "imagenet_mobilenet_v1_s_net": ((1, 0.75, 0.5, 0.25), *_MOBILE, (569, 325, 150, 41)),
    "imagenet_mobilenet_v2_s_net": ((1, 0.75, 0.5, 0.35), *_MOBILE, (301, 209, 97, 59)),
    "imagenet_resnet50_s_net": (
        (1, 0.75, 0.5, 0.25),
        *(100, 256, 0.1, "step", (30, 60, 90), 0.1, "wide_crop"),
        (4089, 2323, 1052, 278),
    ),
}


@pytest.mark.parametrize("name", SLIMMABLE)
def test_settings_of_slimmable_networks_are_the_papers(name):
    recipe = load_recipe(name)
    widths, *settings, augment, macs = SLIMMABLE[name]
    assert (recipe.space.widths, recipe.space.resolutions) == (widths, (224,))
    optimizer = recipe.optimizer
    assert settings == [
        optimizer.epochs,
        recipe.data.batch_size,
        optimizer.lr,
        optimizer.schedule,
        optimizer.milestones,
        optimizer.gamma,
    ]
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
    assert (optimizer.weight_decay, optimizer.decay_all) == (1e-4, False)
    assert recipe.data.augment == augment
    method = recipe.method.value
    assert (recipe.method.name, method.distills, method.owns_norms) == ("s_net", False, True)
    costs = CostModel(Supernet(create_model(recipe.model.name, num_classes=1000), recipe.space))
    for width, expected in zip(widths, macs, strict=True):
        assert costs.macs(Subnet(width_mult=width)) / 1e6 == pytest.approx(expected, abs=1)


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


def test_the_scaled_networks_cost_what_the_paper_says():
    scaled = load_recipe("imagenet_mobilenet_v1_scaled")
    model = create_model(scaled.model.name, num_classes=1000, **scaled.model.kwargs)
    costs = CostModel(Supernet(model, scaled.space))
    gigas = {
        (1.0, 224): 0.569,
        (1.6, 288): 2.353,
        (2.0, 320): 4.521,
    }
    for (width, side), expected in gigas.items():
        found = costs.macs(Subnet(width_mult=width, resolution=side))
        assert found / 1e9 == pytest.approx(expected, abs=0.001)
    compound = load_recipe("imagenet_mobilenet_v1_compound")
    model = create_model(compound.model.name, num_classes=1000, **compound.model.kwargs)
    space = ElasticSpace(width_range=(0.5, 1.0), resolutions=(288,))
    full = CostModel(Supernet(model, space)).macs(Subnet(resolution=288))
    assert full / 1e9 == pytest.approx(2.3, abs=0.15)


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
    with pytest.raises(ValueError, match=r"^method must be one of mutualnet, us_net"):
        with_method(recipe, "magic")
    with pytest.raises(ValueError, match="s_net trains a fixed list of widths"):
        override(recipe, ["method.name=s_net"])


def test_a_method_brings_its_schedule_unless_the_recipe_had_another():
    recipe = load_recipe("imagenet_mobilenet_v1")
    assert with_method(recipe, "us_net").optimizer.schedule == "linear"
    assert with_method(with_method(recipe, "us_net"), "gradaug").optimizer.schedule == "cosine"
    kept = override(with_method(recipe, "us_net"), ["optimizer.schedule=cosine"])
    assert (kept.method.name, kept.optimizer.schedule) == ("us_net", "cosine")
    stepped = override(recipe, ["optimizer.schedule=exponential"])
    assert with_method(stepped, "us_net").optimizer.schedule == "exponential"


def test_widths_that_a_method_never_trains_leave_the_space(caplog):
    recipe = load_recipe("cifar10_wrn16_1")
    alone = override(recipe, ["method.name=independent"])
    assert alone.space.width_range == (1.0, 1.0)
    assert alone.space.resolutions == recipe.space.resolutions  # run at all, trained at the top
    assert "method independent trains the widths 1 alone" in caplog.text
    ends = override(recipe, ["method.num_random=0"])
    assert ends.space.widths == (1.0, 0.25)
    caplog.clear()
    assert override(ends, ["seed=5"]).space == ends.space
    assert not caplog.records


def test_the_independent_grid_has_every_configuration_once():
    grid = independent_grid(load_recipe("imagenet_mobilenet_v1"))
    assert len({recipe.name for recipe in grid}) == 16
    assert {recipe.method.name for recipe in grid} == {"independent"}
    found = {(r.space.largest.width_mult, r.space.largest.resolution) for r in grid}
    assert found == {(w, r) for w in (1, 0.75, 0.5, 0.25) for r in (224, 192, 160, 128)}
    for recipe in grid:
        assert len(recipe.space.grid()) == 1
