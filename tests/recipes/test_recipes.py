"""Every recipe trains, is tabulated and predicts; settings are those of the papers."""

from __future__ import annotations

import json
import sys

import pytest
from torch.utils._pytree import tree_leaves

from mutualnet import commands
from mutualnet.config import RecipeChanges
from mutualnet.config.serialization import read_recipe, write_recipe
from mutualnet.recipes import RECIPES, load_recipe
from mutualnet.run_directory import networks_of, read_record
from mutualnet.supernet.channel_plan import ChannelPlan
from mutualnet.supernet.tracing import trace_channels
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


FEW = (
    "box_batch_size_per_image",
    "rpn_post_nms_top_n_train",
    "rpn_post_nms_top_n_test",
    "box_detections_per_img",
    "mask_channels",
)


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


@pytest.fixture
def no_checkpoints(monkeypatch):
    """Half a gigabyte of some; that they resume is held by smaller networks of every kind."""
    training = sys.modules["mutualnet.training.train"]
    monkeypatch.setattr(training, "write_checkpoint", lambda *_: None)


_PLANS: dict[str, ChannelPlan] = {}


@pytest.fixture
def traced_once(monkeypatch):
    """Each command traces its network. The same one gives the same plan, so it is traced once."""

    def trace(model, example, rules=None):
        shapes = [tuple(tensor.shape) for tensor in tree_leaves(example)]
        sizes = [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]
        key = repr((model, sizes, shapes, rules))
        if key not in _PLANS:
            _PLANS[key] = trace_channels(model, example, rules)
        return _PLANS[key]

    monkeypatch.setattr(sys.modules["mutualnet.supernet.supernet"], "trace_channels", trace)


@pytest.mark.usefixtures("no_checkpoints", "traced_once")
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
    if recipe.data.name == "coco":  # as many proposals as the recipe has take minutes
        kwargs = recipe.model.kwargs | dict.fromkeys(FEW, 8) | {"head_features": 64}
        settings += [f"model.kwargs={json.dumps(kwargs)}", "data.batch_size=2"]
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


@pytest.mark.parametrize("name", ["coco_mask_rcnn_vgg16", "coco_mask_rcnn_resnet50"])
def test_detectors_train_by_the_2x_schedule_on_targets_alone(name):
    recipe = load_recipe(name)
    assert recipe.space.width_range == (0.25, 1)
    assert recipe.space.resolutions == (600, 480, 360, 240)
    optimizer = recipe.optimizer
    assert (optimizer.lr, recipe.data.batch_size, optimizer.weight_decay) == (0.02, 16, 1e-4)
    assert (optimizer.epochs, optimizer.milestones, optimizer.gamma) == (24, (16, 22), 0.1)
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, False)
    assert not recipe.method.value.distills


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
